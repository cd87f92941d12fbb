// The life of a connection, on virtual time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionClosedError, classifyCloseCode, nextReconnectDelay } from '../../dist/index.js';
import { turn, warnings, world } from '../lib/virtual.mjs';

const HELLO = { type: 'hello', caps: ['batch'] };

test('says hello before everything else, even before what readers of the status send', async () => {
	const w = world();
	w.connection.on('a').subscribe(() => {});
	w.connection.subscribe('b');
	w.connection.sendQueued({ n: 1 });
	w.connection.sendQueued({ n: 2 });
	w.connection.status.subscribe((s) => {
		if (s !== 'open') return;
		w.connection.send({ login: true });
		w.connection.sendQueued({ n: 3 });
		w.connection.on('c').subscribe(() => {});
	});
	await turn();
	w.socket.open();
	await turn();
	assert.deepEqual(w.socket.take(), [
		HELLO,
		{ login: true },
		{ type: 'subscribe-batch', topics: ['a', 'b', 'c'], ref: 1 },
		{ n: 1 },
		{ n: 2 },
		{ n: 3 }
	]);
});

test('one topic is asked for in a batch too when the connection opens', async () => {
	const w = world();
	w.connection.on('a').subscribe(() => {});
	w.socket.open();
	assert.deepEqual(w.socket.take(), [HELLO, { type: 'subscribe-batch', topics: ['a'], ref: 1 }]);
});

test('status and failure follow the connection', async () => {
	const w = world();
	const status = w.watch(w.connection.status);
	const failure = w.watch(w.connection.failure);
	w.socket.open();
	w.socket.end(1012, 'reload');
	await w.clock.pass(3_000);
	w.socket.open();
	assert.deepEqual(status, ['connecting', 'open', 'disconnected', 'connecting', 'open']);
	assert.deepEqual(failure, [null, { kind: 'ws-close', class: 'RETRY', code: 1012, reason: 'reload' }, null]);
});

test('waits longer after every attempt that fails, and starts over after a healthy connection', async () => {
	const w = world();
	const delays = [];
	for (let i = 0; i < 8; i++) {
		w.socket.end();
		delays.push(Math.round(w.clock.next));
		await w.clock.pass(w.clock.next);
	}
	assert.deepEqual(delays, [3_000, 6_600, 14_520, 31_944, 70_277, 154_609, 300_000, 300_000]);
	w.socket.open();
	w.socket.receive({ topic: 'a', event: 'b', data: 1 });
	w.socket.end();
	assert.equal(w.clock.next, 3_000);
	await w.clock.pass(3_000);
	w.socket.end();
	await w.clock.pass(w.clock.next);
	w.socket.open();
	await w.clock.pass(1_000);
	w.socket.end();
	assert.equal(w.clock.next, 3_000, 'a second of life is health, too');
});

test('a server that accepts and hangs up at once is asked less and less often', async () => {
	const w = world();
	const delays = [];
	for (let i = 0; i < 4; i++) {
		w.socket.open();
		w.socket.receive({ type: 'welcome', sessionId: 's' });
		w.socket.end();
		delays.push(Math.round(w.clock.next));
		await w.clock.pass(w.clock.next);
	}
	assert.deepEqual(delays, [3_000, 6_600, 14_520, 31_944]);
});

test('the delay is drawn from a quarter around its middle, after the cap', () => {
	assert.deepEqual([0, 0.5, 0.999].map((r) => Math.round(nextReconnectDelay(3_000, 300_000, 0, () => r))), [2_250, 3_000, 3_749]);
	assert.equal(nextReconnectDelay(3_000, 300_000, 9, () => 0), 225_000);
	assert.equal(nextReconnectDelay(1e12, 1e12, 9, () => 1), 2_147_483_647, 'what a timer can hold');
});

test('close codes are told apart', () => {
	const terminal = [1008, 4401, 4403];
	for (const code of [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 3000, 4000, 4400, 4404, ...terminal]) {
		assert.equal(classifyCloseCode(code), terminal.includes(code) ? 'TERMINAL' : 'RETRY', String(code));
	}
	assert.equal(classifyCloseCode(4429), 'THROTTLE');
});

for (const code of [1008, 4401, 4403]) {
	test(`${code} is the end`, async () => {
		const w = world();
		const status = w.watch(w.connection.status);
		const failure = w.watch(w.connection.failure);
		await w.opened();
		w.socket.end(code, 'no');
		await w.clock.pass(10 * 60_000);
		assert.equal(w.sockets.length, 1);
		assert.equal(status.at(-1), 'failed');
		assert.deepEqual(failure.at(-1), { kind: 'ws-close', class: 'TERMINAL', code, reason: 'no' });
		await assert.rejects(w.connection.ready(), (error) => {
			assert.ok(error instanceof ConnectionClosedError);
			assert.equal(error.message, 'WebSocket connection permanently closed');
			assert.equal(error.code, 'CONNECTION_CLOSED');
			assert.equal(error.failure.code, code);
			return true;
		});
		assert.equal(w.connection.sendQueued({ late: true }), false, 'nothing is kept for a connection that will not come');
		assert.equal(w.connection.stats().queued, 0);
		assert.equal(w.clock.pending, 0, 'no timer is left');
	});
}

test('4429 comes back after minutes', async () => {
	const w = world();
	const failure = w.watch(w.connection.failure);
	await w.opened();
	w.socket.end(4429, 'slow down');
	assert.equal(Math.round(w.clock.next), 154_609);
	assert.equal(failure.at(-1).class, 'THROTTLE');
});

test('gives up after the attempts it is allowed', async () => {
	const w = world({ maxReconnectAttempts: 2 });
	const failure = w.watch(w.connection.failure);
	for (let i = 0; i < 2; i++) {
		w.socket.end(1006, '');
		await w.clock.pass(w.clock.next);
	}
	w.socket.end(1013, '');
	assert.deepEqual(failure.at(-1), { kind: 'ws-close', class: 'EXHAUSTED', code: 1013, reason: 'max reconnect attempts exhausted' });
	assert.equal(w.sockets.length, 3);
	assert.equal(w.clock.pending, 0);
});

test('a 4429 exhausts a cap of five at once', async () => {
	const w = world({ maxReconnectAttempts: 5 });
	const status = w.watch(w.connection.status);
	await w.opened();
	w.socket.end(4429);
	assert.equal(status.at(-1), 'failed');
});

test('an attempt that takes too long is given up', async () => {
	const w = world();
	const failure = w.watch(w.connection.failure);
	await w.clock.pass(29_999);
	assert.equal(failure.at(-1), null);
	await w.clock.pass(1);
	assert.deepEqual(failure.at(-1), { kind: 'ws-close', class: 'RETRY', code: 1006, reason: 'not open after 30000 ms' });
	assert.ok(w.sockets[0].closed);
	await w.clock.pass(3_000);
	assert.equal(w.sockets.length, 2);
	w.sockets[0].open();
	assert.deepEqual(w.sockets[0].take(), [], 'the old socket is deaf');
});

test('a silent connection is dead, a quiet one with heartbeats is not', async () => {
	const w = world();
	const status = w.watch(w.connection.status);
	const socket = await w.opened();
	for (let i = 0; i < 10; i++) {
		await w.clock.pass(100_000);
		socket.receive(i % 2 ? '' : { type: 'keepalive' });
	}
	assert.equal(status.at(-1), 'open');
	await w.clock.pass(100_000);
	socket.listeners.ping();
	await w.clock.pass(140_000);
	assert.equal(status.at(-1), 'open', 'a ping is a sign of life');
	await w.clock.pass(30_000);
	assert.notEqual(status.at(-1), 'open');
	assert.ok(socket.closed);
	assert.ok(w.sockets.length <= 2, 'and comes back like after any loss');
});

test('the silence check can be turned off', async () => {
	const w = world({ silenceTimeout: 0 });
	await w.opened();
	await w.clock.pass(3_600_000);
	assert.equal(w.sockets.length, 1);
	assert.ok(!w.socket.closed);
});

test('what an old socket says is not heard', async () => {
	const w = world({ silenceTimeout: 1_000 });
	const events = w.watch(w.connection.events);
	const old = await w.opened();
	const { onmessage } = old;
	await w.clock.pass(6_000);
	await w.opened();
	onmessage({ data: '{"topic":"a","event":"b","data":1}' });
	assert.deepEqual(events, [null]);
});

test('close() ends everything and says so without a failure', async () => {
	const w = world();
	const status = w.watch(w.connection.status);
	const failure = w.watch(w.connection.failure);
	const waiting = w.connection.ready();
	w.connection.close();
	await assert.rejects(waiting, /WebSocket connection permanently closed/);
	assert.deepEqual(status, ['connecting', 'failed']);
	assert.deepEqual(failure, [null]);
	assert.ok(w.socket.closed);
	assert.equal(w.clock.pending, 0);
	w.connection.connect();
	await w.opened();
	assert.deepEqual(status.slice(2), ['connecting', 'open'], 'the same readers see the next connection');
});

test('a reader of the status may close the connection while it opens', async () => {
	const w = world();
	w.connection.on('a').subscribe(() => {});
	w.connection.status.subscribe((s) => s === 'open' && w.connection.close());
	const said = await warnings(async () => {
		w.socket.open();
		await turn();
	});
	assert.deepEqual(said, []);
	assert.deepEqual(w.socket.take(), [HELLO]);
	assert.equal(w.clock.pending, 0);
});

test('nor is a socket opened when that reader is quicker', async () => {
	const w = world();
	w.connection.status.subscribe((s) => s === 'connecting' && w.connection.close());
	w.connection.connect();
	assert.equal(w.sockets.length, 1, 'the one it closed before');
	assert.equal(w.clock.pending, 0);
});

test('what waits for a connection is dropped with the hope for one', async () => {
	const w = world();
	w.connection.sendQueued(1);
	w.connection.close();
	assert.deepEqual([w.connection.stats().queued, w.connection.stats().dropped], [0, 1]);
	const refused = world();
	refused.connection.sendQueued(1);
	refused.socket.end(1008);
	assert.deepEqual([refused.connection.stats().queued, refused.connection.stats().dropped], [0, 1]);
});

test('ready() waits through failed attempts', async () => {
	const w = world();
	assert.equal(w.connection.ready(), w.connection.ready(), 'however many wait, it is one promise');
	let ready = false;
	w.connection.ready().then(() => (ready = true));
	w.socket.end();
	await w.clock.pass(3_000);
	assert.equal(ready, false);
	await w.opened();
	assert.equal(ready, true);
	await w.connection.ready();
});

test('an address that no WebSocket takes is the end, not a reason to try again', async () => {
	class Refusing {
		constructor() {
			throw new SyntaxError('bad url');
		}
	}
	const w = world({ WebSocket: Refusing });
	assert.deepEqual(w.watch(w.connection.failure), [{ kind: 'ws-close', class: 'TERMINAL', code: 1006, reason: 'bad url' }]);
	assert.throws(() => world({ url: 'http://server.test/' }), /has to start with ws: or wss:/);
});

test('without a WebSocket, connecting says how to get one', () => {
	assert.equal(globalThis.WebSocket, undefined, 'this test needs a Node without one');
	assert.throws(() => world({ WebSocket: undefined }), /pass connect\(\{ WebSocket \}\)/);
});

test('options that come too late are named, the same ones again are not', async () => {
	const w = world({ reconnectInterval: 10 });
	assert.equal((await warnings(() => w.connection.connect({ reconnectInterval: 10 }))).length, 0);
	assert.equal((await warnings(() => w.connection.connect({ reconnectInterval: 11 }))).length, 1);
});

test('a reader that throws hurts nobody else', async () => {
	const w = world();
	const seen = [];
	let armed = false;
	w.connection.on('a').subscribe(() => {
		if (armed) throw new Error('mine');
	});
	w.connection.on('a').subscribe((e) => e && seen.push(e.data));
	await w.opened();
	armed = true;
	const said = await warnings(() => {
		w.socket.receive({ topic: 'a', event: 'x', data: 1 });
		w.socket.receive({ topic: 'a', event: 'x', data: 2 });
	});
	assert.deepEqual(seen, [1, 2]);
	assert.equal(said.length, 2);
});

test('a reader that another one sends away hears nothing more', async () => {
	const w = world();
	const seen = [];
	let leave = () => {};
	w.connection.on('a').subscribe((e) => e && leave());
	leave = w.connection.on('a').subscribe((e) => seen.push(e));
	await w.opened();
	w.socket.receive({ topic: 'a', event: 'x', data: 1 });
	assert.deepEqual(seen, [null]);
});

test('counters tell what happened', async () => {
	const w = world();
	w.connection.on('a').subscribe(() => {});
	await w.opened();
	w.socket.receive({ type: 'subscribed', topic: 'a', ref: 1 });
	w.socket.receive({ topic: 'a', event: 'x', data: 1, seq: 5 });
	w.socket.receive('nonsense');
	assert.deepEqual(w.connection.stats(), {
		opened: 1, attempt: 0, topics: 1, acknowledged: 1, received: 3, ignored: 1, withheld: 0, queued: 0, queuedBytes: 0,
		dropped: 0, positions: 1, requests: 0, lastMessageAt: w.clock.time
	});
	w.socket.end();
	assert.equal(w.connection.stats().acknowledged, 0, 'the next server knows of nothing');
});
