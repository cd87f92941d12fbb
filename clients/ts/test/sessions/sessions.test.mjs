// vectors/client-sessions.json: svelte-realtime 0.5.12, unmodified, on top of our client.
//
// The records hold what the server does and what the client must show and send. What the application
// does stands here, once per session, between the steps of the server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Stage } from '../lib/stage.mjs';

const file = new URL('../../../../vectors/client-sessions.json', import.meta.url);
const { sessions } = JSON.parse(readFileSync(file, 'utf8'));

const CRUD = { merge: 'crud', key: 'id' };
const SET = { merge: 'set' };
const LATEST = { merge: 'latest', max: 10 };

/** An open connection. */
const open = (t) => t.play(2);
/** An open connection and the stream `m/items`, watched. */
async function items(t, rt, options = CRUD) {
	await open(t);
	const store = rt.__stream('m/items', options);
	return { store, leave: t.watch('items', store) };
}

const scenarios = {
	'call and reply': async (t, rt) => {
		await open(t);
		const f = rt.__rpc('m/f');
		t.result('call', f(1, 'a', null));
		await t.play();
		t.result('second', f());
		await t.play();
		t.result('third', f(2));
		await t.play();
		t.result('fourth', f(3));
	},
	'call before the socket is open': async (t, rt) => {
		await t.play();
		t.result('call', rt.__rpc('m/f')(1));
	},
	'equal calls in one turn share a request': async (t, rt) => {
		await open(t);
		const f = rt.__rpc('m/f');
		t.result('a', f('x'));
		t.result('b', f('x'));
		t.result('c', f.fresh('x'));
		await t.play(2);
		t.result('d', f.with({ idempotencyKey: 'K' })(1));
		t.result('e', f.with({ idempotencyKey: 'K' })(2));
	},
	'fire and forget': async (t, rt) => {
		rt.configure({});
		await open(t);
		rt.__rpc('m/f').fireAndForget('now', 1);
		await t.play();
		rt.__rpc('m/f').fireAndForget('lost');
	},
	'call times out': async (t, rt) => {
		await open(t);
		t.result('short', rt.__rpc('m/f').with({ timeout: 500 })(1));
		t.result('default', rt.__rpc('m/f')(2));
	},
	batch: async (t, rt) => {
		await open(t);
		const f = rt.__rpc('m/f');
		const g = rt.__rpc('m/g');
		t.result('batch', rt.batch(() => [f(1), f(1), g(2)]));
		await t.play();
		t.result('one', rt.batch(() => [f(1)]));
		await t.play();
		t.result('ordered', rt.batch(() => [f(1), g.with({ idempotencyKey: 'k' })(2)], { sequential: true }));
		await t.play();
		t.result('none', rt.batch(() => []));
	},
	'stream: cold start': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD);
		t.watch('status', store.status);
		t.watch('items', store);
	},
	'stream: opened before the socket': async (t, rt) => {
		await t.play();
		t.watch('items', rt.__stream('m/items', CRUD));
	},
	'streams opened together share one frame': async (t, rt) => {
		await open(t);
		t.watch('a', rt.__stream('m/a', SET));
		t.watch('b', rt.__stream('m/b', SET, true)('room', 2));
	},
	'sixty streams opened together exceed the server batch limit': async (t, rt) => {
		await open(t);
		for (let i = 0; i < 60; i++) rt.__stream(`m/s${i}`, SET).subscribe(() => {});
	},
	'stream: events that arrive before the reply are lost': items,
	'stream: a second stream on the same topic repeats the last event': async (t, rt) => {
		await open(t);
		t.watch('first', rt.__stream('m/log', LATEST));
		await t.play(2);
		t.watch('second', rt.__stream('m/log2', LATEST));
	},
	'stream: server options win over stub options': items,
	'stream: gated': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD);
		t.watch('status', store.status);
		t.watch('items', store);
	},
	'stream: refused': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD).hydrate([{ id: 'ssr' }]);
		t.watch('error', store.error);
		t.watch('status', store.status);
		t.watch('items', store);
		t.watch('quiescent', rt.quiescent);
	},
	'stream: topic refused by the transport after the reply': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD);
		t.watch('error', store.error);
		t.watch('status', store.status);
		t.watch('items', store);
	},
	'stream: times out': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD);
		t.watch('error', store.error);
		t.watch('items', store);
	},
	'reconnect: full reload keeps showing old data': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD);
		t.watch('status', store.status);
		t.watch('items', store);
	},
	'reconnect: replay after live events': async (t, rt) => {
		await open(t);
		t.watch('log', rt.__stream('m/log', LATEST));
	},
	'reconnect: version and schema version travel back': items,
	'reconnect: a derived stream keeps its value': async (t, rt) => {
		await open(t);
		t.watch('sum', rt.__stream('m/sum', SET));
	},
	'reconnect: several bounces back off': (t, rt) => items(t, rt, SET),
	'in-flight work at a disconnect': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/items', CRUD);
		t.watch('status', store.status);
		t.watch('error', store.error);
		t.watch('items', store);
		t.result('call', rt.__rpc('m/f')(1));
		t.result('upload', rt.__upload('m/up')(new Uint8Array([1])));
		await t.settle();
	},
	'terminal close': async (t, rt) => {
		await open(t);
		t.watch('failure', rt.failure);
		t.result('in flight', rt.__rpc('m/f')(1));
		await t.play();
		t.result('later', rt.__rpc('m/f')(2));
	},
	'marker event: replay ended': items,
	'marker event: truncated': items,
	'pause and resume inside the grace period': async (t, rt) => {
		const { store, leave } = await items(t, rt);
		await t.play();
		t.app('stops reading items');
		leave();
		await t.play();
		t.watch('items again', store);
	},
	'pause longer than the grace period': async (t, rt) => {
		const { store, leave } = await items(t, rt);
		await t.play();
		t.app('stops reading items');
		leave();
		await t.play();
		t.watch('items again', store);
	},
	'stop and start again in the same turn': async (t, rt) => {
		const { store, leave } = await items(t, rt);
		await t.play();
		leave();
		t.watch('items again', store);
	},
	'grace period off': async (t, rt) => {
		rt.configure({ resumeGraceMs: 0 });
		const { store, leave } = await items(t, rt);
		await t.play();
		t.app('stops reading items');
		leave();
		await t.settle();
		t.watch('items again', store);
	},
	paging: async (t, rt) => {
		await open(t);
		const page = rt.__stream('m/page', CRUD, true)('room');
		t.watch('page', page);
		await t.play();
		t.result('more', page.loadMore('extra'));
		t.result('while loading', page.loadMore('extra'));
		await t.play();
		t.result('at the end', page.loadMore());
	},
	'paging with prepend': async (t, rt) => {
		await open(t);
		const page = rt.__stream('m/page', CRUD);
		t.watch('page', page);
		await t.play();
		t.result('more', page.loadMore());
		await t.play();
		t.result('cursor 0 counts as none', page.loadMore());
	},
	'hydrate then load': async (t, rt) => {
		await open(t);
		t.watch('items', rt.__stream('m/items', CRUD).hydrate([{ id: 'ssr' }]));
	},
	'hydrate a channel': async (t, rt) => {
		await open(t);
		t.watch('chan', rt.__stream('m/chan', SET).hydrate('ssr'));
	},
	'offline queue': async (t, rt) => {
		rt.configure({ offline: { queue: true, maxQueue: 2 } });
		await open(t);
		await t.play();
		const f = rt.__rpc('m/f');
		t.result('one', f(1));
		t.result('two', f(2));
		t.result('three', f(3));
		await t.settle();
	},
	'offline queue: expiry and filter': async (t, rt) => {
		const beforeReplay = ({ args }) => args[0] !== 'drop';
		rt.configure({ offline: { queue: true, maxAge: 2_000, beforeReplay } });
		await open(t);
		await t.play();
		const f = rt.__rpc('m/f');
		t.result('old', f('old'));
		await t.play();
		t.result('keep', f('keep'));
		t.result('dropped', f('drop'));
	},
	'no offline queue: calls wait in the transport queue': async (t, rt) => {
		await open(t);
		await t.play();
		t.result('waiting', rt.__rpc('m/f')(1));
	},
	push: async (t, rt) => {
		rt.onPush('ask', (data) => ({ got: data }));
		rt.onPush('quiet', () => {});
		rt.onPush('boom', () => {
			throw new Error('no thanks');
		});
		await open(t);
	},
	'push without any handler': open,
	'signals and health need no subscribe frame': async (t, rt) => {
		await open(t);
		rt.onSignal('u1', (event, data) => t.app(`signal ${event} ${JSON.stringify(data)}`));
		t.watch('health', rt.health);
	},
	'events in a transport batch frame': items,
	'optimistic change confirmed by an event': async (t, rt) => {
		const { store } = await items(t, rt);
		await t.play();
		const change = { event: 'created', data: { id: 2, pending: true } };
		t.result('mutate', store.mutate(() => rt.__rpc('m/add')({ id: 2 }), change));
	},
	'optimistic change refused': async (t, rt) => {
		const { store } = await items(t, rt);
		await t.play();
		const change = { event: 'created', data: { id: 'tmp', t: 'x' } };
		t.result('mutate', store.mutate(() => rt.__rpc('m/add')('x'), change));
	},
	'optimistic change while the first load is pending': async (t, rt) => {
		const { store } = await items(t, rt);
		await t.settle();
		t.result('mutate', store.mutate(() => rt.__rpc('m/add')(2), { event: 'created', data: { id: 2 } }));
	},
	'optimistic set overrides a later server value': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/n', SET);
		t.watch('n', store);
		await t.play();
		t.result('mutate', store.mutate(() => rt.__rpc('m/set')(5), { event: 'set', data: 5 }));
	},
	'optimistic append to latest is doubled by its echo': async (t, rt) => {
		await open(t);
		const store = rt.__stream('m/log', LATEST);
		t.watch('log', store);
		await t.play();
		t.result('mutate', store.mutate(() => rt.__rpc('m/say')('hi'), { event: 'push', data: 'hi' }));
	}
};

test('every recorded session has its application', () => {
	assert.deepEqual(sessions.map((s) => s.name), Object.keys(scenarios));
	assert.equal(sessions.length, 46);
});

for (const session of sessions) {
	test(session.name, async () => {
		const log = await Stage.play(session, scenarios[session.name]);
		assert.deepEqual(agreed(log), agreed(session.transcript));
	});
}

/**
 * The one deliberate difference in order: our hello is the first frame of a connection, where the
 * published client lets readers of the status write theirs before it. And what a text may say.
 */
function agreed(steps) {
	const result = [];
	let stimulus = 0;
	for (const step of steps) {
		if (step.out?.type === 'hello') {
			result.splice(stimulus, 0, step);
			continue;
		}
		result.push(step.out?.error ? { out: { ...step.out, error: FREE_TEXT(step.out) } } : step);
		if ('in' in step || 'wait' in step || 'socket' in step || 'client' in step) stimulus = result.length;
	}
	return result;
}

const FREE_TEXT = ({ ref, error }) => (ref === 10 ? '<any text>' : error);
