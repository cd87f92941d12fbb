import { becomes, equal, fails, follow, freshSpace, sleep, until, watch } from './kit.js';

const check = (name, run) => ({ name: `streams: ${name}`, run });

/**
 * What every strategy shows after each event. `rows` is what is there at first; `mine` is an event that
 * a page shows before the server knows of it, and `undone` what is left when the server refuses.
 */
const STRATEGIES = [
	{
		path: 'st/items',
		kind: 'items',
		rows: [{ id: 1 }, { id: 2 }],
		events: [
			['created', { id: 3, n: 1 }, [{ id: 1 }, { id: 2 }, { id: 3, n: 1 }]],
			['updated', { id: 1, n: 2 }, [{ id: 1, n: 2 }, { id: 2 }, { id: 3, n: 1 }]],
			['updated', { id: 9 }, [{ id: 1, n: 2 }, { id: 2 }, { id: 3, n: 1 }]],
			['deleted', { id: 3 }, [{ id: 1, n: 2 }, { id: 2 }]],
			['refreshed', [{ id: 7 }], [{ id: 7 }]]
		],
		mine: ['created', { id: 'mine' }, [{ id: 7 }, { id: 'mine' }]]
	},
	{
		path: 'st/top',
		kind: 'top',
		rows: [{ id: 4 }, { id: 3 }, { id: 2 }, { id: 1 }],
		events: [
			['created', { id: 5 }, [5, 4, 3, 2, 1].map((id) => ({ id }))],
			['created', { id: 6 }, [6, 5, 4, 3, 2].map((id) => ({ id }))],
			['deleted', { id: 2 }, [6, 5, 4, 3].map((id) => ({ id }))]
		],
		mine: ['created', { id: 7 }, [7, 6, 5, 4, 3].map((id) => ({ id }))]
	},
	{
		path: 'st/sku',
		kind: 'sku',
		rows: [{ sku: 'a', id: 1 }],
		events: [
			['created', { sku: 'b', id: 1 }, [{ sku: 'a', id: 1 }, { sku: 'b', id: 1 }]],
			['deleted', { sku: 'b' }, [{ sku: 'a', id: 1 }]]
		],
		mine: ['updated', { sku: 'a', id: 2 }, [{ sku: 'a', id: 2 }]]
	},
	{
		path: 'st/lines',
		kind: 'log',
		rows: [1, 2, 3],
		events: [
			['said', 4, [1, 2, 3, 4]],
			['whatever', null, [2, 3, 4, null]],
			['said', [5], [3, 4, null, [5]]]
		]
	},
	{
		path: 'st/value',
		kind: 'value',
		rows: { n: 1 },
		events: [
			['set', { n: 2 }, { n: 2 }],
			['anything', 'text', 'text'],
			['set', null, null],
			['refreshed', 7, 7]
		]
	},
	{
		path: 'st/who',
		kind: 'who',
		rows: [{ key: 'a' }],
		events: [
			['join', { key: 'b', at: 1 }, [{ key: 'a' }, { key: 'b', at: 1 }]],
			['join', { key: 'a', at: 2 }, [{ key: 'a', at: 2 }, { key: 'b', at: 1 }]],
			['leave', { key: 'b' }, [{ key: 'a', at: 2 }]],
			['set', [{ key: 'c' }], [{ key: 'c' }]]
		],
		mine: ['join', { key: 'me' }, [{ key: 'c' }, { key: 'me' }]]
	},
	{
		path: 'st/ptr',
		kind: 'ptr',
		rows: [],
		events: [
			['update', { key: 'a', x: 1 }, [{ key: 'a', x: 1 }]],
			['update', { key: 'b', x: 2 }, [{ key: 'a', x: 1 }, { key: 'b', x: 2 }]],
			['remove', { key: 'b' }, [{ key: 'a', x: 1 }]]
		],
		mine: ['update', { key: 'me', x: 0 }, [{ key: 'a', x: 1 }, { key: 'me', x: 0 }]]
	}
];

const strategies = STRATEGIES.map(({ path, kind, rows, events, mine }) =>
	check(`${path}: first value, live events, late subscriber, optimistic change`, async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace(kind);
		await other.call('ctl/seed', kind, space, rows);
		const seen = follow(page.stream(path, space));
		await becomes('the first value is there', () => seen.last, rows);
		equal([seen.error, seen.status], [null, 'connected'], 'error and status');
		for (const [event, data, shown] of events) {
			await other.call('st/emit', kind, space, event, data);
			await becomes(`${event} is shown`, () => seen.last, shown);
		}
		const late = watch(other.stream(path, space));
		await becomes('a late subscriber sees the same', () => late.last, events.at(-1)[2]);
		if (mine) await optimistic({ page, seen, late, path, kind, space, mine, before: events.at(-1)[2] });
		equal(seen.errors, [null], 'errors');
		equal(page.connection.stats().ignored, 0, 'no frame was strange');
	})
);

/** A change is shown at once, stays when the server agrees, and goes when it refuses. */
async function optimistic({ page, seen, late, path, kind, space, mine: [event, data, shown], before }) {
	const stream = page.stream(path, space);
	const refused = stream.mutate(() => page.call('st/emitFail', kind, space, event, data, 80, 'NO'), { event, data });
	equal(seen.last, shown, 'the change before it is refused');
	await fails(refused, { code: 'NO', message: 'refused on purpose' });
	equal(seen.last, before, 'the change after it was refused');
	const agreed = stream.mutate(() => page.call('st/emitSlow', kind, space, event, data, 80), { event, data });
	equal(seen.last, shown, 'the change before it is agreed to');
	equal(await agreed, data, 'the result');
	await becomes('the change stays', () => seen.last, shown);
	await becomes('others see it', () => late.last, shown);
	await becomes('the server has it', () => page.call('ctl/truth', kind, space), shown);
}

export const streams = [
	...strategies,

	check('events arrive in order, none missing, none twice', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('many');
		const stream = page.stream('st/items', space);
		const seen = watch(stream);
		await becomes('it is there', () => seen.last, []);
		const ids = Array.from({ length: 400 }, (_, id) => id);
		const list = ids.map((id) => ['created', { id }]);
		equal(await other.call('st/emitMany', 'items', space, list), 400, 'events');
		await becomes('all are shown, in order', () => seen.last, ids.map((id) => ({ id })));
	}),

	check('two writers and two readers agree', async (world) => {
		const pages = [await world.page(), await world.page()];
		const space = freshSpace('agree');
		const seen = pages.map((page) => watch(page.stream('st/items', space)));
		const value = pages.map((page) => watch(page.stream('st/value', space)));
		await until('both are there', () => seen.every(({ last }) => last) && value.every(({ last }) => last === null));
		await Promise.all(
			pages.flatMap((page, who) =>
				Array.from({ length: 60 }, (_, n) => [
					page.call('st/emit', 'items', space, 'created', { id: n % 20, by: `${who}.${n}` }),
					page.call('st/emit', 'value', space, 'set', `${who}.${n}`)
				])
			).flat()
		);
		const [rows, last] = [await pages[0].call('ctl/truth', 'items', space), await pages[0].call('ctl/truth', 'value', space)];
		for (const one of seen) await becomes('a list is the server\'s', () => one.last, rows);
		for (const one of value) await becomes('a value is the server\'s', () => one.last, last);
	}),

	check('a hundred and twenty streams opened in one turn', async (world) => {
		const page = await world.page();
		const space = freshSpace('wide');
		const all = Array.from({ length: 120 }, (_, i) => ({ i, seen: follow(page.stream('st/value', `${space}-${i}`)) }));
		await until('all have a value', () => all.every(({ seen }) => seen.last === null));
		await Promise.all(all.map(({ i }) => page.call('st/emit', 'value', `${space}-${i}`, 'set', i)));
		await until('all are live', () => all.every(({ i, seen }) => seen.last === i));
		equal(all.filter(({ seen }) => seen.error).length, 0, 'errors');
		await until('all topics are acknowledged', () => page.connection.stats().acknowledged === 120);
	}),

	check('pages, appended and prepended', async (world) => {
		const page = await world.page();
		const ids = (list) => list?.map(({ id }) => id);
		for (const [path, order] of [
			['st/pages', [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]],
			['st/pagesTop', [[1, 2, 3, 4], [5, 6, 7, 8, 1, 2, 3, 4], [9, 10, 5, 6, 7, 8, 1, 2, 3, 4]]]
		]) {
			const stream = page.stream(path, freshSpace('pages'));
			const seen = watch(stream);
			await becomes('the first page', () => ids(seen.last), order[0]);
			equal(stream.hasMore, true, 'there is more');
			equal(await stream.loadMore(), true, 'and more');
			equal(ids(seen.last), order[1], 'two pages');
			equal(await stream.loadMore(), false, 'and no more');
			equal(ids(seen.last), order[2], 'three pages');
			equal(await stream.loadMore(), false, 'nothing is asked any more');
			equal(ids(seen.last), order[2], 'still three pages');
		}
	}),

	check('topics without a first value show what happens, and keep it over a loss', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('channel');
		const kinds = [
			['value', 'set', null, [1, 1], [2, 2]],
			['list', 'created', [], [{ id: 1 }, [{ id: 1 }]], [{ id: 2 }, [{ id: 1 }, { id: 2 }]]],
			['log', 'said', [], [1, [1]], [2, [1, 2]]],
			['who', 'join', [], [{ key: 1 }, [{ key: 1 }]], [{ key: 2 }, [{ key: 1 }, { key: 2 }]]],
			['ptr', 'update', [], [{ key: 1 }, [{ key: 1 }]], [{ key: 1, x: 2 }, [{ key: 1, x: 2 }]]]
		];
		const seen = kinds.map(([name]) => follow(page.stream(`ch/${name}`, space)));
		for (const [i, [name, event, empty, [data, shown]]] of kinds.entries()) {
			await becomes(`${name}: nothing yet`, () => seen[i].last, empty);
			await other.call('ctl/publish', `ch${name}:${space}`, event, data);
			await becomes(`${name}: an event`, () => seen[i].last, shown);
		}
		await page.wire('cut');
		const twice = ({ statuses }) => statuses.filter((status) => status === 'connected').length === 2;
		await until('all are back', () => seen.every(twice));
		for (const [i, [name, event, , [, shown], [data, then]]] of kinds.entries()) {
			equal(seen[i].last, shown, `${name}: over the loss`);
			await other.call('ctl/publish', `ch${name}:${space}`, event, data);
			await becomes(`${name}: live again`, () => seen[i].last, then);
			equal(seen[i].errors, [null], name);
		}
	}),

	check('two streams on one topic; one leaves, the other goes on', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('two');
		const [first, second] = [0, 5].map((ms) => follow(page.stream('st/slow', space, ms)));
		const emit = (id) => other.call('st/emit', 'slowly', space, 'created', { id });
		await until('both are there', () => first.last && second.last);
		await emit(1);
		for (const seen of [first, second]) await becomes('an event is shown', () => seen.last, [{ id: 1 }]);
		first.stop();
		await page.call('ctl/ping');
		await emit(2);
		await becomes('the second goes on', () => second.last, [{ id: 1 }, { id: 2 }]);
		equal(await other.call('ctl/subscribers', `slowly:${space}`), 1, 'subscribers');
		second.stop();
		await becomes('nobody is left', () => other.call('ctl/subscribers', `slowly:${space}`), 0);
	}),

	check('a stream that is loaded while another of its topic is left', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('handed');
		const emit = (id) => other.call('st/emit', 'slowly', space, 'created', { id });
		const first = watch(page.stream('st/slow', space, 0));
		await becomes('the first is there', () => first.last, []);
		await emit(1);
		await becomes('it is live', () => first.last, [{ id: 1 }]);
		// As when one page gives way to another.
		const second = follow(page.stream('st/slow', space, 600));
		await sleep(100);
		first.stop();
		await sleep(100);
		await emit(2);
		await becomes('the second has all', () => second.last, [{ id: 1 }, { id: 2 }]);
		await sleep(2_500);
		await emit(3);
		await becomes('and is live', () => second.last, [{ id: 1 }, { id: 2 }, { id: 3 }]);
		equal([second.errors, second.status], [[null], 'connected'], 'errors and status');
	}),

	check('a second list of the latest repeats the last event, unless it is told not to', async (world) => {
		for (const [handOver, shown] of [[true, [1, 2, 2]], [false, [1, 2]]]) {
			const page = await world.page({}, { handOver });
			const space = freshSpace('repeat');
			await page.call('ctl/seed', 'log', space, [1]);
			const stub = { merge: 'latest', max: 4 };
			const first = watch(page.stream('st/lines', space));
			await becomes('the first is there', () => first.last, [1]);
			await page.call('st/emit', 'log', space, 'said', 2);
			await becomes('the event is shown', () => first.last, [1, 2]);
			const second = watch(page.rt._createStreamAtSchemaVersion('st/lines', stub, [space], 1));
			await until('the second is there', () => second.last);
			await becomes('what the second shows', () => second.last, shown);
			equal(first.last, [1, 2], 'the first');
		}
	}),

	check('leaving and coming back in one turn changes nothing', async (world) => {
		const page = await world.page();
		const space = freshSpace('turn');
		const stream = page.stream('st/hooked', space);
		const leave = stream.subscribe(() => {});
		await until('it is subscribed', async () => (await page.call('ctl/readLog', `hooked:${space}`)).length === 2);
		leave();
		const seen = watch(stream);
		await page.call('st/emit', 'hooked', space, 'created', { id: 1 });
		await becomes('events are shown', () => seen.last, [{ id: 1 }]);
		equal(await page.call('ctl/readLog', `hooked:${space}`), ['on anonymous', 'load'], 'what the server saw');
	}),

	check('coming back within the grace time shows the old value at once, then what was missed', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('grace');
		const holders = (kind) => other.call('ctl/subscribers', `${kind}:${space}`);
		const kinds = [
			['st/items', 'items', 'created', [{ id: 1 }], { id: 2 }, [{ id: 1 }, { id: 2 }]],
			['st/lines', 'log', 'said', [1], 2, [1, 2]],
			['st/value', 'value', 'set', 1, 2, 2],
			['st/who', 'who', 'join', [{ key: 1 }], { key: 2 }, [{ key: 1 }, { key: 2 }]],
			['st/ptr', 'ptr', 'update', [{ key: 1 }], { key: 2 }, [{ key: 1 }, { key: 2 }]]
		];
		for (const [path, kind, event, rows, missed, after] of kinds) {
			await other.call('ctl/seed', kind, space, rows);
			const stream = page.stream(path, space);
			const first = watch(stream);
			await becomes('it is there', () => first.last, rows);
			first.stop();
			await becomes('the server knows of it', () => holders(kind), 0);
			await other.call('st/emit', kind, space, event, missed);
			const back = watch(stream);
			equal(back.values, [rows], `${path}: the old value`);
			await becomes(`${path}: what was missed is shown`, () => back.last, after);
			back.stop();
		}
	}),

	check('without a grace time a stream starts anew', async (world) => {
		const page = await world.page();
		page.rt.configure({ resumeGraceMs: 0 });
		const space = freshSpace('cold');
		const stream = page.stream('st/items', space);
		const first = watch(stream);
		await becomes('it is there', () => first.last, []);
		first.stop();
		await page.call('ctl/seed', 'items', space, [{ id: 1 }]);
		const back = watch(stream);
		equal(back.values[0], undefined, 'nothing at first');
		await becomes('then the new value', () => back.last, [{ id: 1 }]);
	}),

	check('streams that are refused say why, and nothing is shown', async (world) => {
		const anonymous = await world.page();
		const user = await world.page({ user: 'u1', role: 'editor', org: 'o1' });
		const admin = await world.page({ user: 'u2', role: 'admin', org: 'o1' });
		const space = freshSpace('denied');
		const refusal = async (page, code, path, ...args) => {
			const seen = follow(page.stream(path, ...args));
			await becomes(`${path} is refused`, () => seen.error?.code, code);
			equal([seen.last, seen.status], [undefined, 'error'], path);
		};
		await refusal(anonymous, 'UNAUTHENTICATED', 'st/adminOnly', space);
		await refusal(user, 'FORBIDDEN', 'st/adminOnly', space);
		await refusal(anonymous, 'UNAUTHENTICATED', 'st/owned', space);
		await refusal(user, 'FORBIDDEN', 'st/mine', 'somebody else');
		await refusal(user, 'FORBIDDEN', 'st/both', 'o1');
		await refusal(user, 'FORBIDDEN', 'st/accessWaits', space);
		await refusal(user, 'ACCESS_BROKEN', 'st/accessFails', space);
		await refusal(user, 'KYC_PENDING', 'st/kyc', space);
		await refusal(anonymous, 'UNAUTHENTICATED', 'adm/feed', space);
		await refusal(user, 'VALIDATION', 'st/args', 'not plain!', 3);
		await refusal(user, 'VALIDATION', 'st/args', 'plain', 10);
		await refusal(user, 'INVALID_REQUEST', 'st/badTopic', space);
		await refusal(user, 'INVALID_REQUEST', 'st/reserved', space);
		await refusal(user, 'NOT_FOUND', 'st/unknown', space);
		const granted = async (page, value, path, ...args) => {
			const seen = follow(page.stream(path, ...args));
			await becomes(`${path} is there`, () => seen.last, value);
			equal(seen.errors, [null], path);
		};
		await granted(admin, [{ id: 1 }], 'st/adminOnly', space);
		await granted(user, [{ id: 'u1' }], 'st/mine', 'u1');
		await granted(admin, [], 'st/both', 'o1');
		await granted(admin, [], 'st/accessWaits', space);
		await granted(user, { n: 3, isNumber: true }, 'st/args', 'plain', '3');
	}),

	check('a refused topic carries no events', async (world) => {
		const [page, admin] = [await world.page({ user: 'u1' }), await world.page({ user: 'u2', role: 'admin' })];
		const space = freshSpace('secret');
		const [refused, granted] = [page, admin].map((one) => follow(one.stream('st/adminOnly', space)));
		await becomes('one is refused', () => refused.error?.code, 'FORBIDDEN');
		await becomes('one is there', () => granted.last, [{ id: 1 }]);
		const heard = watch(page.transport.on(`adminonly:${space}`));
		await page.call('ctl/ping');
		await admin.call('ctl/publish', `adminonly:${space}`, 'created', { id: 2 });
		await becomes('the event is shown', () => granted.last, [{ id: 1 }, { id: 2 }]);
		await page.call('ctl/ping');
		equal([heard.values, refused.last], [[null], undefined], 'what the other heard');
	}),

	check('a gate that is closed shows null; once it is open, the stream opens', async (world) => {
		const page = await world.page();
		for (const path of ['wrp/gated', 'wrp/gatedTwice']) {
			const space = freshSpace('gate');
			const stream = page.stream(path, space);
			const closed = follow(stream);
			await becomes('the gate is closed', () => closed.last, null);
			equal([closed.error, closed.status], [null, 'connected'], 'error and status');
			closed.stop();
			await page.call('ctl/setFlag', `gate:${space}`, true);
			const open = watch(stream);
			await becomes('the gate is open', () => open.last, []);
		}
	}),

	check('a loader that fails leaves nothing behind; the next try works', async (world) => {
		const page = await world.page();
		const space = freshSpace('failing');
		const stream = page.stream('st/failing', space);
		for (const [flag, code] of [['yes', 'LOAD_FAILED'], ['plain', 'INTERNAL_ERROR']]) {
			await page.call('ctl/setFlag', `fail:${space}`, flag);
			const failed = follow(stream);
			await becomes('it fails', () => failed.error?.code, code);
			failed.stop();
		}
		equal(await page.call('ctl/subscribers', `failing:${space}`), 0, 'subscribers');
		await page.call('ctl/setFlag', `fail:${space}`, null);
		const seen = follow(stream);
		await becomes('it works', () => [seen.last, seen.error], [[], null]);
		await page.call('st/emit', 'failing', space, 'created', { id: 1 });
		await becomes('it is live', () => seen.last, [{ id: 1 }]);
	}),

	check('events of the time between asking and the answer are not lost', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('between');
		const seen = follow(page.stream('st/slow', space, 400));
		await becomes('the server has subscribed it', () => other.call('ctl/subscribers', `slowly:${space}`), 1);
		await other.call('st/emit', 'slowly', space, 'created', { id: 1 });
		await other.call('st/emit', 'slowly', space, 'created', { id: 2 });
		await becomes('they are shown', () => seen.last, [{ id: 1 }, { id: 2 }]);
	}),

	check('shaped rows and versions', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('shaped');
		await other.call('ctl/seed', 'shaped', space, [{ id: 1, secret: 's' }]);
		const seen = watch(page.stream('st/shaped', space));
		await becomes('the first value is shaped', () => seen.last, [{ id: 1, shaped: true }]);
		await other.call('st/emit', 'shaped', space, 'created', { id: 2, secret: 's' });
		const both = [{ id: 1, shaped: true }, { id: 2, shaped: true }];
		await becomes('events are shaped', () => seen.last, both);
		const old = page.rt._createStreamAtSchemaVersion('st/versioned', { merge: 'crud', key: 'id' }, [space], 1);
		const migrated = watch(old);
		await becomes('a client of an old version', () => migrated.last?.[0], { id: 1, name: 'one', step1: true, step2: true });
	})
];
