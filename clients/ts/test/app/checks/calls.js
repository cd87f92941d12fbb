import { becomes, equal, fails, freshSpace, until, watch } from './kit.js';

const check = (name, run) => ({ name: `calls: ${name}`, run });

export const calls = [
	check('values come back as they are', async (world) => {
		const { call } = bound(await world.page());
		const nested = { list: [1, -0.5, 1e21, '\u0000\u2028"\\😀', null, true, [], {}], deep: { a: { b: [[1]] } } };
		equal(await call('rpc/echo', nested), nested, 'echo');
		equal(await call('rpc/nil'), null, 'null');
		equal(await call('rpc/nothing'), undefined, 'no value');
		equal(await call('rpc/args', 1, undefined, 'x'), [1, null, 'x'], 'arguments');
		equal(await call('rpc/add', 2, 40), 42, 'sum');
		equal(await call('rpc/unusualText'), '\u0000\u2028\u2029"\\😀', 'unusual text');
		equal((await call('ctl/big', 100_000)).length, 100_000, 'a large reply');
		equal(await call('rpc/echo', 'ä'.repeat(20_000)), 'ä'.repeat(20_000), 'a large call');
	}),

	check('a reply that no client would read is a failure instead', async (world) => {
		const { call } = bound(await world.page());
		await fails(call('ctl/big', 1_100_000), { code: 'PAYLOAD_TOO_LARGE' });
		equal(await call('ctl/ping'), 'pong', 'the connection goes on');
	}),

	check('errors keep code and text; what was not meant for callers does not travel', async (world) => {
		const { call } = bound(await world.page());
		await fails(call('rpc/fail', 'OWN_CODE', 'own text'), { code: 'OWN_CODE', message: 'own text' });
		await fails(call('rpc/fail', 'OWN_CODE'), { code: 'OWN_CODE', message: 'OWN_CODE' });
		await fails(call('rpc/crash', 'a secret'), { code: 'INTERNAL_ERROR', message: 'Internal server error' });
		await fails(call('rpc/missing'), { code: 'NOT_FOUND' });
		await fails(call('not a path'), { code: 'INVALID_REQUEST' });
		await fails(call('st/items', 'x'), { code: 'INVALID_REQUEST' }, 'a stream without the flag');
		await fails(call('adm/secret'), { code: 'UNAUTHENTICATED', message: 'sign in first' });
		const user = bound(await world.page({ user: 'u1' }));
		await fails(user.call('adm/secret'), { code: 'FORBIDDEN', message: 'admins only' });
		const admin = bound(await world.page({ user: 'u2', role: 'admin' }));
		equal(await admin.call('adm/secret'), { level: 10 }, 'an admin');
	}),

	check('issues say what is wrong with the arguments', async (world) => {
		const { call } = bound(await world.page());
		const issues = [
			{ path: ['a'], message: 'first' },
			{ path: ['b', '0'], message: 'second' }
		];
		await fails(call('rpc/failIssues'), { code: 'VALIDATION', issues });
		const paths = async (value) => (await call('val/item', value).catch((error) => error)).issues.map(({ path }) => path);
		equal(await paths({ qty: 0, tags: ['a', 1] }), [['name'], ['qty'], ['tags', '1']], 'three issues');
		const checked = { value: { name: 'pen', qty: 3 }, rest: ['more'] };
		equal(await call('val/item', { name: ' pen ', qty: '3', odd: 1 }, 'more'), checked, 'a good value');
	}),

	check('equal calls of one turn share a request, fresh ones do not', async (world) => {
		const page = await world.page();
		const [bump, counter] = [page.rt.__rpc('rpc/bump'), freshSpace('bump')];
		equal(await Promise.all([bump(counter), bump(counter)]), [1, 1], 'shared');
		const all = await Promise.all([bump(counter), bump.fresh(counter), bump.fresh(counter)]);
		equal(all.sort(), [2, 3, 4], 'fresh');
		equal(await bump(counter), 5, 'another turn');
	}),

	check('a call has its time, and a late reply harms nobody', async (world) => {
		const page = await world.page();
		const slow = page.rt.__rpc('rpc/slow').with({ timeout: 60 });
		await fails(slow(400, 'late'), { code: 'TIMEOUT' });
		equal(await page.rt.__rpc('rpc/slow').with({ timeout: 30_000 })(400, 'in time'), 'in time', 'more time');
		equal(page.connection.stats().ignored, 0, 'no frame was strange');
	}),

	check('slow calls do not hold back quick ones', async (world) => {
		const { call } = bound(await world.page());
		const order = [];
		const slow = call('rpc/slow', 500, 'slow').then((value) => order.push(value));
		const quick = call('rpc/echo', 'quick').then((value) => order.push(value));
		await Promise.all([slow, quick]);
		equal(order, ['quick', 'slow'], 'order');
	}),

	check('fire and forget: it runs, and nothing comes back', async (world) => {
		const page = await world.page();
		page.rt.configure({});
		const log = freshSpace('note');
		for (const line of ['a', 'b', 'c']) page.rt.__rpc('rpc/note').fireAndForget(log, line);
		page.rt.__rpc('rpc/noteFail').fireAndForget(log, 'd');
		await becomes('the lines are in the log', () => page.call('ctl/readLog', log), ['a', 'b', 'c', 'd']);
	}),

	check('a batch, side by side', async (world) => {
		const page = await world.page();
		const [slow, echo, fail] = ['slow', 'echo', 'fail'].map((name) => page.rt.__rpc(`rpc/${name}`));
		equal(await page.rt.batch(() => [slow(60, 'a'), echo('b'), slow(20, 'c')]), ['a', 'b', 'c'], 'values');
		equal(await page.rt.batch(() => []), [], 'nothing');
		equal(await page.rt.batch(() => [echo('alone')]), ['alone'], 'one');
		const fifty = Array.from({ length: 50 }, (_, i) => i);
		equal(await page.rt.batch(() => fifty.map((i) => echo(i))), fifty, 'fifty');
		let others = [];
		await fails(page.rt.batch(() => (others = [echo(1), fail('NO', 'no'), echo(3)])), { code: 'NO', message: 'no' });
		const settled = await Promise.allSettled(others);
		equal(settled.map((one) => one.value ?? one.reason.code), [1, 'NO', 3], 'the others are not touched');
		const tooMany = page.rt.batch(() => [...fifty, 50].map((i) => echo(i).catch(() => {})));
		await fails(tooMany, { code: 'INVALID_REQUEST' }, 'fifty-one');
	}),

	check('a batch, one after the other', async (world) => {
		const page = await world.page();
		const [note, slow, log] = [page.rt.__rpc('rpc/note'), page.rt.__rpc('rpc/slow'), freshSpace('order')];
		const sequential = { sequential: true };
		await page.rt.batch(() => [note(log, 'first'), slow(50, 1), note(log, 'second')], sequential);
		equal(await page.call('ctl/readLog', log), ['first', 'second'], 'the log');
		const started = Date.now();
		await page.rt.batch(() => [slow(60, 1), slow(60, 2), slow(60, 3)], sequential);
		if (Date.now() - started < 180) throw new Error('the calls of a sequential batch ran side by side');
	}),

	check('a key makes a call happen once, also over a lost connection', async (world) => {
		// Without a user, keys would count for one connection only.
		const page = await world.page({ user: freshSpace('u') });
		const [counter, key] = [freshSpace('once'), freshSpace('key')];
		const [run, slow] = ['run', 'slow'].map((name) => page.rt.__rpc(`idem/${name}`).with({ idempotencyKey: key }));
		equal([await run(counter), await run(counter)], [{ n: 1 }, { n: 1 }], 'the same twice');
		const other = page.rt.__rpc('idem/run').with({ idempotencyKey: freshSpace('key') });
		equal([await other(counter), await page.call('idem/run', counter)], [{ n: 2 }, { n: 3 }], 'another key, and none');
		const lost = fails(slow(counter, 300), { code: 'DISCONNECTED' });
		await page.call('ctl/ping');
		await page.wire('cut');
		await lost;
		await until('it is back', async () => (await page.call('ctl/ping')) === 'pong');
		equal([await slow(counter, 300), await page.call('idem/run', counter)], [{ n: 4 }, { n: 5 }], 'asked again');
	}),

	check('the server asks the page', async (world) => {
		const page = await world.page();
		page.rt.onPush('double', ({ n }) => n * 2);
		page.rt.onPush('broken', () => {
			throw new Error('on purpose');
		});
		equal(await page.call('ctl/request', 'double', { n: 21 }, 10_000), { ok: true, value: 42 }, 'an answer');
		equal((await page.call('ctl/request', 'broken', null, 10_000)).ok, false, 'a handler that fails');
		equal((await page.call('ctl/request', 'unknown', null, 10_000)).ok, false, 'no handler');
	}),

	check('a lost connection ends calls at once; later ones wait for the next', async (world) => {
		const page = await world.page();
		const status = watch(page.transport.status);
		const inFlight = page.call('rpc/slow', 20_000, 'never');
		const failed = fails(inFlight, { code: 'DISCONNECTED' });
		// Enough time for the call to be on its way; if it is not, it fails all the same.
		await page.call('ctl/ping');
		await page.wire('cut');
		await failed;
		await until('the loss is shown', () => status.values.includes('disconnected'));
		equal(await page.call('rpc/echo', 'later'), 'later', 'a later call');
		equal(status.last, 'open', 'status');
		// svelte-realtime gives up calls whenever an attempt to connect fails, those that wait for it too.
		await page.wire('refuse', 300);
		await page.wire('cut');
		await until('the loss is shown', () => status.last === 'disconnected');
		await fails(page.call('rpc/echo', 'too early'), { code: 'DISCONNECTED' });
		await becomes('it comes back', () => page.call('rpc/echo', 'again'), 'again');
	}),

	check('the offline queue keeps calls in order', async (world) => {
		const page = await world.page();
		const log = freshSpace('offline');
		page.rt.configure({ offline: { queue: true, maxQueue: 3 } });
		const status = watch(page.transport.status);
		await page.wire('refuse', 150);
		await page.wire('cut');
		await until('the loss is shown', () => status.last === 'disconnected');
		const results = ['a', 'b', 'c', 'd'].map((line) => page.call('rpc/note', log, line));
		const settled = await Promise.allSettled(results);
		equal(settled.map((one) => one.reason?.code ?? 'sent'), ['QUEUE_FULL', 'sent', 'sent', 'sent'], 'results');
		equal(await page.call('ctl/readLog', log), ['b', 'c', 'd'], 'the log');
	})
];

/** A page's calls, without the page. */
const bound = (page) => ({ call: (...args) => page.call(...args) });
