// Lists, maps, counters and single events made of a topic.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { writable } from 'svelte/store';
import * as api from '../../dist/index.js';
import { turn, world } from '../lib/virtual.mjs';

// The helpers belong to the page's connection, so here that one lives in a world of its own.
const made = world();
api.connect({ url: 'ws://server.test/ws', WebSocket: made.socket.constructor, timers: made.clock, now: made.clock.now, storage: null });
await made.opened();
let last = 0;
/** A topic nobody used before, and a way to publish on it. */
function topic() {
	const name = `topic-${++last}`;
	return { name, publish: (event, data) => made.socket.receive({ topic: name, event, data }) };
}
function watch(store) {
	const values = [];
	const leave = store.subscribe((value) => values.push(value));
	return { values, leave, get last() { return values.at(-1); } };
}

test('crud keeps a list', () => {
	const t = topic();
	const list = watch(api.crud(t.name, [{ id: 1 }]));
	t.publish('created', { id: 2 });
	t.publish('updated', { id: 1, v: 'new' });
	t.publish('updated', { id: 9 });
	t.publish('created', null);
	t.publish('created', 'text');
	t.publish('unknown', { id: 1 });
	assert.deepEqual(list.last, [{ id: 1, v: 'new' }, { id: 2 }]);
	assert.equal(list.values.length, 3, 'what changes nothing wakes nobody');
	t.publish('created', { id: 1, v: 'again' });
	assert.deepEqual(list.last, [{ id: 1, v: 'again' }, { id: 2 }], 'no key stands in the list twice');
	t.publish('created', { id: 3 });
	t.publish('deleted', { id: 2 });
	t.publish('deleted', { id: 77 });
	assert.deepEqual(list.last, [{ id: 1, v: 'again' }, { id: 3 }]);
	t.publish('refreshed', [{ id: 8 }]);
	assert.deepEqual(list.last, [{ id: 8 }]);
});

test('crud with another key, newest first, of limited length', () => {
	const t = topic();
	const front = watch(api.crud(t.name, [], { key: 'sku', prepend: true, max: 2 }));
	const back = watch(api.crud(t.name, [], { key: 'sku', max: 2 }));
	for (const sku of ['a', 'b', 'c']) t.publish('created', { sku });
	assert.deepEqual(front.last.map((i) => i.sku), ['c', 'b']);
	assert.deepEqual(back.last.map((i) => i.sku), ['b', 'c']);
});

test('the value given at first is not changed', () => {
	const t = topic();
	const initial = [{ id: 1 }];
	const list = watch(api.crud(t.name, initial));
	t.publish('deleted', { id: 1 });
	assert.deepEqual(list.last, []);
	assert.deepEqual(initial, [{ id: 1 }]);
});

test('lookup keeps a map', () => {
	const t = topic();
	const map = watch(api.lookup(t.name, [{ id: 1 }, { noKey: true }]));
	assert.deepEqual(map.last, { 1: { id: 1 } });
	t.publish('created', { id: 'x' });
	t.publish('updated', { id: 2, v: 1 });
	t.publish('created', { noKey: true });
	t.publish('deleted', { id: 1 });
	t.publish('created', { id: '__proto__', harm: true });
	assert.deepEqual(Object.keys(map.last), ['2', 'x', '__proto__']);
	assert.equal(map.last.harm, undefined);
	t.publish('refreshed', [{ id: 5 }]);
	assert.deepEqual(map.last, { 5: { id: 5 } });
	assert.deepEqual(watch(api.lookup(topic().name, { a: { id: 'a' } })).values[0].a, { id: 'a' });
});

test('lookup of limited size', () => {
	const t = topic();
	const map = watch(api.lookup(t.name, [], { max: 2 }));
	for (const id of ['a', 'b', 'c']) t.publish('created', { id });
	assert.deepEqual(Object.keys(map.last), ['b', 'c']);
});

test('latest keeps the newest events, without the marks of missed ones', () => {
	const t = topic();
	const list = watch(api.latest(t.name, 2));
	const none = watch(api.latest(t.name, 0));
	for (const n of [1, 2, 3]) t.publish('said', n);
	t.publish('end', { reqId: 0, truncated: true });
	assert.deepEqual(list.last.map((e) => [e.topic, e.event, e.data]), [[t.name, 'said', 2], [t.name, 'said', 3]]);
	assert.deepEqual(none.last, []);
	const fifty = watch(api.latest(t.name));
	for (let i = 0; i < 60; i++) t.publish('said', i);
	assert.equal(fifty.last.length, 50);
});

test('count follows set, increment and decrement', () => {
	const t = topic();
	const n = watch(api.count(t.name, 5));
	for (const [event, data] of [['increment'], ['increment', 3], ['decrement', null], ['set', 'x'], ['decrement', 2], ['other', 1]]) t.publish(event, data);
	assert.equal(n.last, 6);
	t.publish('set', -1);
	assert.equal(n.last, -1);
});

test('an event seen by others before is folded where folding it is right', () => {
	const t = topic();
	watch(api.on(t.name));
	t.publish('increment', 1);
	assert.deepEqual(watch(api.count(t.name, 10)).values, [10], 'that step is in the first value already');
	t.publish('set', 7);
	assert.deepEqual(watch(api.count(t.name, 10)).values, [7]);
	t.publish('created', { id: 5, v: 'new' });
	assert.deepEqual(watch(api.crud(t.name, [{ id: 5 }])).values, [[{ id: 5, v: 'new' }]]);
	assert.deepEqual(watch(api.on(t.name).scan([], (all, e) => [...all, e.event])).values, [['created']]);
});

test('a reader that comes back finds the state it left, and no event twice', () => {
	const t = topic();
	watch(api.on(t.name));
	const store = api.on(t.name).scan(0, (n) => n + 1);
	const first = watch(store);
	t.publish('x', 1);
	first.leave();
	const second = watch(store);
	assert.deepEqual(second.values, [1]);
	t.publish('x', 2);
	assert.deepEqual(second.values, [1, 2]);
});

test('a reducer may change its state in place', () => {
	const t = topic();
	const seen = [];
	api.on(t.name, 'x').scan([], (all, e) => (all.push(e.data), all)).subscribe((all) => seen.push([...all]));
	t.publish('x', 1);
	t.publish('y', 2);
	assert.deepEqual(seen, [[], [1]]);
});

test('once waits for the next event, not for one that was', async () => {
	const t = topic();
	watch(api.on(t.name));
	t.publish('x', 1);
	const any = api.once(t.name);
	const named = api.once(t.name, 'y');
	t.publish('x', 2);
	t.publish('y', 3);
	assert.deepEqual(await any, { topic: t.name, event: 'x', data: 2 });
	assert.deepEqual(await named, { data: 3 });
});

test('once gives up after its time and lets go of the topic', async () => {
	mock.timers.enable({ apis: ['setTimeout'] });
	const t = topic();
	const before = api.connect().stats().topics;
	const any = api.once(t.name, { timeout: 100 });
	const named = api.once(t.name, 'x', { timeout: 100 });
	const quick = api.once(t.name, 'y', { timeout: 50 });
	t.publish('y', 1);
	mock.timers.tick(100);
	assert.equal((await any).event, 'y', 'it was in time');
	await assert.rejects(named, { message: `once('${t.name}', 'x') timed out after 100ms` });
	assert.deepEqual(await quick, { data: 1 });
	mock.timers.reset();
	await turn();
	assert.equal(api.connect().stats().topics, before);
});

test('entries that are not refreshed go away', () => {
	mock.timers.enable({ apis: ['setInterval', 'Date'] });
	const t = topic();
	const list = watch(api.crud(t.name, [{ id: 'old' }], { maxAge: 10_000 }));
	const map = watch(api.lookup(t.name, [{ id: 'old' }], { maxAge: 10_000 }));
	mock.timers.tick(6_000);
	t.publish('created', { id: 'new' });
	mock.timers.tick(4_000);
	assert.deepEqual(list.last, [{ id: 'new' }]);
	assert.deepEqual(map.last, { new: { id: 'new' } });
	t.publish('updated', { id: 'new', v: 1 });
	mock.timers.tick(9_000);
	assert.equal(list.last.length, 1);
	mock.timers.tick(5_000);
	assert.deepEqual([list.last, map.last], [[], {}]);
	t.publish('created', { id: 'last' });
	list.leave();
	map.leave();
	mock.timers.tick(60_000);
	assert.equal(list.last.length, 1, 'nobody reads, nothing runs');
	mock.timers.reset();
});

test('a derived topic follows its value', async () => {
	const source = writable(null);
	const a = topic();
	const b = topic();
	const derived = watch(api.onDerived(({ name }) => name, source));
	source.set({ name: a.name });
	await turn();
	a.publish('x', 1);
	source.set({ name: b.name });
	a.publish('x', 'not mine');
	b.publish('x', 2);
	source.set({ name: b.name });
	assert.equal(derived.last.data, 2, 'the same topic goes on');
	source.set({ name: '' });
	b.publish('x', 'not mine');
	assert.deepEqual(derived.values.map((e) => e?.data ?? null), [null, 1, null, 2, null]);
	source.set({ name: a.name });
	derived.leave();
	await turn();
	const sent = made.socket.take().filter((f) => [f.topic, ...(f.topics ?? [])].some((t) => t === a.name || t === b.name));
	assert.deepEqual(sent.map((f) => f.type), ['subscribe', 'unsubscribe'], 'what came and went within one turn is not said');
	assert.equal(made.connection.stats().topics, 0);
});

test('the stores of the module are those of the connection', () => {
	assert.deepEqual(watch(api.status).values, ['open']);
	assert.deepEqual(watch(api.failure).values, [null]);
	assert.deepEqual(watch(api.denials).values, [null]);
	assert.deepEqual(watch(api.gaps).last.from, 'server');
	api.onRequest(() => 'yes')();
	return api.ready();
});

test('every export of the published client is here', () => {
	const names = ['classifyCloseCode', 'connect', 'count', 'crud', 'denials', 'failure', 'latest', 'lookup', 'nextReconnectDelay', 'on', 'onDerived', 'onRequest', 'once', 'ready', 'status'];
	for (const name of names) assert.ok(name in api, name);
});
