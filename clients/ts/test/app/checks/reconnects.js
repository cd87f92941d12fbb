import { becomes, equal, fails, follow, freshSpace, generator, sleep, until, watch } from './kit.js';

const check = (name, run) => ({ name: `reconnects: ${name}`, run });
/** For what only a page in a browser can do. */
const inBrowser = (name, run) => ({ ...check(name, run), browser: true });

/** One stream of each strategy, the event that puts something there, and how lists are compared. */
const STREAMS = [
	{ path: 'st/items', kind: 'items', key: 'id', put: 'created', change: 'updated', drop: 'deleted' },
	{ path: 'st/sku', kind: 'sku', key: 'sku', put: 'created', change: 'updated', drop: 'deleted' },
	{ path: 'st/who', kind: 'who', key: 'key', put: 'join', change: 'join', drop: 'leave' },
	{ path: 'st/ptr', kind: 'ptr', key: 'key', put: 'update', change: 'update', drop: 'remove' },
	// Newer events of a row take the place of older ones that wait, so every event has to be the whole row.
	{ path: 'st/coal', kind: 'coal', key: 'k', put: 'created', change: 'created', drop: 'created' },
	{ path: 'st/replay', kind: 'replay', key: 'id', put: 'created', change: 'updated', drop: 'deleted' },
	{ path: 'st/value', kind: 'value', put: 'set' },
	{ path: 'st/lines', kind: 'log', put: 'said' },
	{ path: 'st/replog', kind: 'replog', put: 'said' }
];

/** Removing moves the last item into the gap on the client, so the order of a keyed list says nothing. */
const sorted = (rows, key) => [...rows].sort((a, b) => (a[key] < b[key] ? -1 : 1));

/**
 * Whether a page shows what the server has. The newest lines may hold one twice: it was in the loaded
 * list and came as an event as well, since nothing tells the client that they are the same. The newest
 * are there in their order, none is missing between two that are shown, and the last is the last.
 */
function agree({ kind, key }, shown, truth) {
	if (key) return [sorted(shown, key), sorted(truth, key)];
	if (kind === 'value') return [shown, truth];
	const once = shown.filter((line, at) => shown.lastIndexOf(line) === at);
	return [once, truth.slice(truth.length - once.length)];
}

/** Waits until a page shows what the server has; and, with the last round trip, that it stays so. */
async function settle(what, page, seen, truthOf) {
	for (const pass of ['', ' and goes on to']) {
		for (const stream of STREAMS) {
			const truth = await truthOf(stream);
			await becomes(
				`${what}: ${stream.path}${pass} show what the server has`,
				() => {
					const [shown, wanted] = agree(stream, seen[stream.kind].last, truth);
					equal(shown, wanted, stream.path);
					return seen[stream.kind].status;
				},
				'connected'
			);
		}
		// The connection may still be on its way down: then there is another to come, and time for it.
		await page.call('ctl/ping').catch(() => sleep(50));
	}
}

/** A page that follows one stream of each strategy. */
function followAll(page, space) {
	return Object.fromEntries(STREAMS.map(({ path, kind }) => [kind, follow(page.stream(path, space))]));
}

/** The same with a page that nobody has disturbed. */
async function freshView(world, space, truthOf) {
	const page = await world.page();
	const seen = followAll(page, space);
	await until('a fresh page has everything', () => STREAMS.every(({ kind }) => seen[kind].status === 'connected'));
	for (const { kind } of STREAMS) equal(seen[kind].last, await truthOf({ kind }), `a fresh page: ${kind}`);
	page.close();
}

/** Changes of one kind's rows, each of them different from all others. */
function change({ kind, key, put, change, drop }, random, n) {
	if (!key) return ['st/emit', kind, put, kind === 'value' ? { n } : `line ${n}`];
	const id = random.below(12);
	const event = random.pick([put, put, put, change, drop]);
	return ['st/emit', kind, event, { [key]: id, n }];
}

/** What happens to a connection. Each returns how long to wait before the next thing. */
const INCIDENTS = {
	cut: (page) => page.wire('cut'),
	'cut twice': async (page, random) => {
		await page.wire('cut');
		await sleep(random.below(120));
		await page.wire('cut');
	},
	'the server does not notice': (page, random) => page.wire('forget', random.between(20, 300)),
	'the page does not notice': (page, random) => page.wire('vanish', random.between(20, 300)),
	stall: (page, random) => page.wire('stall', random.between(20, 250)),
	'stall and cut': async (page, random) => {
		await page.wire('stall', random.between(20, 150));
		await sleep(random.below(100));
		await page.wire('cut');
	},
	delay: (page, random) => page.wire('delay', random.below(15)),
	tear: (page, random) => page.wire('tear', random.below(400)),
	'refuse and cut': async (page, random) => {
		await page.wire('refuse', random.below(150));
		await page.wire('cut');
	},
	'the server hangs up': (page, random, { writer, user }) =>
		writer.call('ctl/closeUser', user, random.pick([1000, 1001, 1011, 1012, 4000]), 'storm'),
	'the server lets go': (page, random, { writer, user }) => writer.call('ctl/dropUser', user),
	nothing: async () => {}
};

/** A call ends with its own answer, or with the loss. */
const echo = (page, n) =>
	page.call('rpc/echo', n).then(
		(value) => equal(value, n, 'the answer to a call'),
		({ code }) => equal(code, 'DISCONNECTED', 'the end of a call')
	);

/** One reader whose connection suffers, and one writer whose does not, until the time is up. */
async function storm(world, seed, seconds) {
	const random = generator(seed);
	const space = freshSpace('storm');
	const user = `storm-${space}`;
	const writer = await world.page();
	const page = await world.page({ user });
	const truthOf = ({ kind }) => writer.call('ctl/truth', kind, space);
	const seen = followAll(page, space);
	const end = Date.now() + seconds * 1_000;
	let [rounds, n] = [0, 0];
	const write = async (times) => {
		for (; times > 0; times--) {
			const calls = Array.from({ length: random.between(1, 6) }, () => {
				const [path, kind, event, data] = change(random.pick(STREAMS), random, ++n);
				return writer.call(path, kind, space, event, data);
			});
			await Promise.all(calls);
			if (random.below(3) === 0) await sleep(random.below(30));
		}
	};
	while (Date.now() < end) {
		const name = random.pick(Object.keys(INCIDENTS));
		try {
			const writing = write(random.between(1, 12));
			const calls = [echo(page, n)];
			await sleep(random.below(60));
			calls.push(echo(page, n + 0.5));
			await INCIDENTS[name](page, random, { writer, user });
			await Promise.all([writing, ...calls]);
			if (random.below(3) === 0) await write(random.between(1, 4));
			await settle(`after round ${rounds} (${name})`, page, seen, truthOf);
		} catch (error) {
			throw new Error(`${error.message}; the storm's seed was ${seed}`);
		}
		rounds++;
	}
	const codes = new Set(STREAMS.flatMap(({ kind }) => seen[kind].errors.map((error) => error?.code)));
	equal([...codes].filter((code) => code && code !== 'DISCONNECTED'), [], 'errors other than the loss itself');
	await freshView(world, space, truthOf);
	const { opened, ignored } = page.connection.stats();
	equal(ignored, 0, 'strange frames');
	writer.close();
	page.close();
	return { rounds, events: n, connections: opened };
}

export const reconnects = [
	check('nothing is lost in a storm', async (world) => {
		const { seed, seconds } = world.settings;
		const storms = [0, 1, 2, 3].map((i) => storm(world, seed + i, seconds));
		const runs = await Promise.all(storms).catch((error) => {
			throw new Error(`STORM_SEED=${seed}: ${error.message}`);
		});
		const sum = (name) => runs.reduce((total, run) => total + run[name], 0);
		console.log(
			`storm ${seed}: ${sum('rounds')} rounds, ${sum('events')} events, ${sum('connections')} connections`
		);
		if (sum('connections') < 4 + runs.length) throw new Error('the storm did not blow');
	}),

	check('what was missed is there when the stream is back; until then the old value is shown', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('missed');
		await writer.call('ctl/seed', 'items', space, [{ id: 1 }]);
		const seen = follow(page.stream('st/items', space));
		await becomes('it is there', () => seen.last, [{ id: 1 }]);
		await page.wire('refuse', 200);
		await page.wire('cut');
		await becomes('nobody is subscribed', () => writer.call('ctl/subscribers', `items:${space}`), 0);
		await writer.call('st/emit', 'items', space, 'created', { id: 2 });
		equal(seen.last, [{ id: 1 }], 'the old value');
		await becomes('what was missed is shown', () => seen.last, [{ id: 1 }, { id: 2 }]);
		await becomes('it is well again', () => [seen.status, seen.error], ['connected', null]);
		await writer.call('st/emit', 'items', space, 'created', { id: 3 });
		await becomes('it is live', () => seen.last.length, 3);
		equal(seen.values.filter((value) => value?.length === 0), [], 'it never showed less than it had');
		equal(seen.errors, [null], 'coming back is no error');
	}),

	check('a page that cannot keep up ends with everything all the same', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('behind');
		const random = generator(3);
		const truthOf = ({ kind }) => writer.call('ctl/truth', kind, space);
		const seen = followAll(page, space);
		await settle('before', page, seen, truthOf);
		const before = page.connection.stats().received;
		await page.wire('stall', 2_500);
		for (let n = 0; n < 90; n++) {
			const [path, kind, event, data] = change(random.pick(STREAMS), random, n);
			await writer.call(path, kind, space, event, data);
			// More than sockets and servers keep for a reader: 30 MB on topics that it reads.
			const stream = STREAMS[n / 10 - 1];
			if (stream?.key) await writer.call('ctl/flood', `${stream.kind}:${space}`, 100, 60_000);
		}
		await settle('after', page, seen, truthOf);
		const { received, opened } = page.connection.stats();
		if (received - before > 500 && opened === 1) throw new Error('the page kept up');
	}),

	check('the latest without trouble: each once, in order', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('quiet');
		const seen = follow(page.stream('st/lines', space));
		await becomes('it is there', () => seen.last, []);
		for (let n = 1; n <= 6; n++) {
			await writer.call('st/emit', 'log', space, 'said', n);
			await page.wire('cut');
			await until('it is back', () => seen.statuses.filter((status) => status === 'connected').length === n + 1);
			const newest = Array.from({ length: n }, (_, i) => i + 1).slice(-4);
			await becomes('the newest, each once', () => seen.last, newest);
		}
	}),

	check('a stream that showed several pages comes back with the first, and has more', async (world) => {
		const page = await world.page();
		const stream = page.stream('st/pages', freshSpace('pages'));
		const seen = follow(stream);
		await until('it is there', () => seen.last?.length === 4);
		await stream.loadMore();
		equal(await stream.loadMore(), false, 'no more');
		await page.wire('cut');
		await becomes('the first page', () => seen.last.map(({ id }) => id), [1, 2, 3, 4]);
		equal([stream.hasMore, await stream.loadMore()], [true, true], 'there is more');
		equal(seen.last.map(({ id }) => id), [1, 2, 3, 4, 5, 6, 7, 8], 'two pages');
		equal(seen.errors, [null], 'errors');
	}),

	check('a refused stream is asked for again on the next connection', async (world) => {
		const page = await world.page({ user: 'u1' });
		const space = freshSpace('again');
		await page.call('ctl/setFlag', `fail:${space}`, true);
		const seen = follow(page.stream('st/failing', space));
		await becomes('it fails', () => seen.error?.code, 'LOAD_FAILED');
		await page.call('ctl/setFlag', `fail:${space}`, null);
		await page.wire('cut');
		await becomes('it works', () => [seen.last, seen.error, seen.status], [[], null, 'connected']);
	}),

	check('three hundred streams come back together, and none shows an error', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('crowd');
		const all = Array.from({ length: 300 }, (_, i) => follow(page.stream('st/value', `${space}-${i}`)));
		await until('all are there', () => all.every(({ last }) => last === null));
		await page.wire('cut');
		await Promise.all(all.map((_, i) => writer.call('st/emit', 'value', `${space}-${i}`, 'set', i)));
		await until('all show what was set', () => all.every(({ last }, i) => last === i));
		await until('all are well', () => all.every(({ status, error }) => status === 'connected' && error === null));
		equal(new Set(all.flatMap(({ errors }) => errors)).size, 1, 'coming back is no error');
	}),

	check('streams that say only what changed end with everything', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const random = generator(7);
		const id = () => freshSpace('row');
		const drop = id();
		// The version of `twoways` never changes, so only what is kept can tell: ten events since the last answer.
		const feeds = [
			['st/delta', 14, (n) => (n % 4 === 3 ? writer.call('st/deltaDrop', drop) : writer.call('st/deltaPut', n % 4 === 0 ? drop : id()))],
			['st/bridge', 14, () => writer.call('st/bridgePut', { id: id() })],
			['st/twoways', 7, () => writer.call('st/twowaysPut', { id: id() })]
		];
		for (const [path, most, put] of feeds) {
			const stub = { merge: 'crud', key: 'id' };
			const seen = follow(page.rt.__stream(path, stub));
			await until(`${path} is there`, () => seen.status === 'connected');
			for (let round = 0; round < 8; round++) {
				await put(0);
				const back = seen.statuses.filter((status) => status === 'connected').length + 1;
				await page.wire('refuse', 60);
				await page.wire('cut');
				// Some rounds miss more than is kept.
				for (let n = random.between(1, most); n > 0; n--) await put(n);
				await until('it is back', () => seen.statuses.filter((status) => status === 'connected').length >= back);
				await put(1);
				const fresh = await world.page();
				const all = follow(fresh.rt.__stream(path, stub));
				await until('a fresh page has everything', () => all.status === 'connected');
				const rows = sorted(all.last, 'id');
				await becomes(`${path}: round ${round}`, () => sorted(seen.last, 'id'), rows);
				fresh.close();
			}
			seen.stop();
		}
	}),

	check('numbers of a server that died mean nothing to the next', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('epoch');
		const emit = (id) => writer.call('st/emit', 'replay', space, 'created', { id });
		for (let id = 0; id < 5; id++) await emit(id);
		const seen = follow(page.stream('st/replay', space));
		await becomes('it is there', () => seen.last?.length, 5);
		for (const more of [0, 1, 4]) {
			await page.wire('refuse', 1_500);
			await page.wire('cut');
			await world.restart();
			await until('the writer is back', async () => (await writer.call('ctl/ping')) === 'pong');
			// As many as before, a few more: numbers that the page has seen, and those right behind them.
			for (let n = 0; n < 5 + more; n++) await emit(`${more}.${n}`);
			const rows = await writer.call('ctl/truth', 'replay', space);
			await becomes('it shows what the new server has', () => sorted(seen.last, 'id'), sorted(rows, 'id'));
		}
	}),

	check('a server that dies is replaced: pages show what the new one has', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('restart');
		const truthOf = ({ kind }) => writer.call('ctl/truth', kind, space);
		const seen = followAll(page, space);
		for (const [n, stream] of STREAMS.entries()) {
			const [path, kind, event, data] = change({ ...stream, change: stream.put, drop: stream.put }, generator(n), n);
			await writer.call(path, kind, space, event, data);
		}
		await settle('before', page, seen, truthOf);
		const failed = fails(page.call('rpc/slow', 30_000, 'never'), { code: 'DISCONNECTED' });
		await world.restart();
		await failed;
		await until('the writer is back', async () => (await writer.call('ctl/ping')) === 'pong');
		equal(await truthOf({ kind: 'items' }), [], 'the new server remembers nothing');
		await settle('after', page, seen, truthOf);
		for (const [n, stream] of STREAMS.entries()) {
			const [path, kind, event, data] = change({ ...stream, change: stream.put, drop: stream.put }, generator(n), n);
			await writer.call(path, kind, space, event, data);
		}
		await settle('live again', page, seen, truthOf);
		await freshView(world, space, truthOf);
	}),

	inBrowser('events that wait for a late frame do not undo what is loaded', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const id = freshSpace('row');
		const seen = follow(page.rt.__stream('st/delta', { merge: 'crud', key: 'id' }));
		await until('it is there', () => seen.status === 'connected');
		const heard = watch(page.connection.events);
		const quick = { requestAnimationFrame, cancelAnimationFrame };
		Object.assign(globalThis, {
			requestAnimationFrame: (run) => setTimeout(() => run(performance.now()), 400),
			cancelAnimationFrame: clearTimeout
		});
		try {
			await writer.call('st/deltaPut', id);
			await becomes('the event has come', () => heard.last?.data?.id, id);
			await page.wire('cut');
			await writer.call('st/deltaDrop', id);
			await until('it is back', () => seen.statuses.filter((status) => status === 'connected').length === 2);
			await sleep(900);
			equal(seen.last.filter((row) => row.id === id), [], 'what is shown');
		} finally {
			Object.assign(globalThis, quick);
		}
	}),

	inBrowser('a page that is hidden and shown again loads everything anew, and misses nothing', async (world) => {
		const [page, writer] = [await world.page(), await world.page()];
		const space = freshSpace('hidden');
		const truthOf = ({ kind }) => writer.call('ctl/truth', kind, space);
		const [status, seen] = [watch(page.transport.status), followAll(page, space)];
		await settle('before', page, seen, truthOf);
		const random = generator(1);
		for (let round = 0; round < 5; round++) {
			hide(true);
			equal(status.last, 'suspended', 'status');
			for (const stream of STREAMS) {
				const [path, kind, event, data] = change(stream, random, round);
				await writer.call(path, kind, space, event, data);
			}
			if (round === 3) await page.wire('cut');
			hide(false);
			await until('it is open', () => status.last === 'open');
			await settle(`shown again, round ${round}`, page, seen, truthOf);
		}
	})
];

function hide(hidden) {
	Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
	document.dispatchEvent(new Event('visibilitychange'));
}
