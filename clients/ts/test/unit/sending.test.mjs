// Sending, the queue, coming back where we were, and the server's questions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turn, warnings, world } from '../lib/virtual.mjs';

test('send() goes out while open and is dropped otherwise', async () => {
	const w = world();
	assert.equal(w.connection.send(1), false);
	await w.opened();
	assert.equal(w.connection.send({ a: 1 }), true);
	assert.equal(w.connection.send('text'), true);
	assert.equal(w.connection.send(undefined), true);
	const bytes = new Uint8Array([1, 2]);
	w.connection.send(bytes);
	w.connection.send(bytes.buffer);
	assert.deepEqual(w.socket.sent, ['{"a":1}', '"text"', 'null', bytes, bytes.buffer]);
	w.socket.end();
	assert.equal(w.connection.send(1), false);
});

test('the queue keeps the newest thousand, in order, across attempts', async () => {
	const w = world();
	const said = await warnings(() => {
		for (let i = 0; i < 1_005; i++) assert.equal(w.connection.sendQueued(i), true);
	});
	assert.equal(said.length, 5);
	assert.equal(w.connection.stats().queued, 1_000);
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	assert.deepEqual(w.socket.take().slice(1), Array.from({ length: 1_000 }, (_, i) => i + 5));
	const { queued, queuedBytes, dropped } = w.connection.stats();
	assert.deepEqual({ queued, queuedBytes, dropped }, { queued: 0, queuedBytes: 0, dropped: 5 });
});

test('the queue is bounded in bytes, too', async () => {
	const w = world({ queueBytesMax: 100, queueMax: 10 });
	await warnings(() => {
		for (let i = 0; i < 5; i++) w.connection.sendQueued(new Uint8Array(40).fill(i));
		w.connection.sendQueued(new Uint8Array(101));
	});
	assert.deepEqual(w.connection.stats().queuedBytes, 80);
	assert.equal(w.connection.stats().dropped, 4);
	w.socket.open();
	assert.deepEqual(w.socket.sent.slice(1).map((b) => b[0]), [3, 4], 'what is too large displaces nothing');
});

test('a socket that dies during the flush loses what it was given and no more', async () => {
	const w = world();
	for (let i = 0; i < 5; i++) w.connection.sendQueued(i);
	const { socket } = w;
	const send = socket.send.bind(socket);
	let count = 0;
	socket.send = (data) => {
		send(data);
		if (++count === 3) socket.readyState = 2; // after hello, 0 and 1
	};
	socket.open();
	assert.equal(w.connection.stats().queued, 3);
	w.socket.end();
	await w.clock.pass(w.clock.next);
	w.socket.open();
	assert.deepEqual(w.socket.take().slice(1), [2, 3, 4]);
});

test('bufferedAmount is that of the socket', async () => {
	const w = world();
	await w.opened();
	w.socket.bufferedAmount = 77;
	assert.equal(w.connection.bufferedAmount, 77);
	w.socket.end();
	assert.equal(w.connection.bufferedAmount, 0);
});

test('says where it was when it comes back, with the session it had', async () => {
	const w = world();
	w.connection.on('a').subscribe(() => {});
	await w.opened();
	w.socket.receive({ type: 'welcome', sessionId: 'one' });
	w.socket.receive({ topic: 'a', event: 'x', data: 1, seq: 5 });
	w.socket.receive({ topic: 'a', event: 'x', data: 1, seq: 3 });
	w.socket.receive({ topic: '__replay:a', event: 'x', data: 1, seq: 0.5 });
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	w.socket.receive({ type: 'welcome', sessionId: 'two' });
	assert.deepEqual(w.socket.take().slice(1), [
		{ type: 'resume', sessionId: 'one', lastSeenSeqs: { a: 5, '__replay:a': 0.5 } },
		{ type: 'subscribe-batch', topics: ['a'], ref: 1 + 1 }
	]);
	w.socket.end();
	await w.clock.pass(w.clock.next);
	w.socket.open();
	assert.equal(w.socket.take()[1].sessionId, 'two');
});

test('without a session, or without a number seen, there is nothing to resume', async () => {
	for (const frame of [{ type: 'welcome', sessionId: 's' }, { topic: 'a', event: 'x', data: 1, seq: 5 }]) {
		const w = world();
		await w.opened();
		w.socket.receive(frame);
		w.socket.end();
		await w.clock.pass(3_000);
		w.socket.open();
		assert.deepEqual(w.socket.take().map((f) => f.type), ['hello']);
	}
});

test('the resume frame stays below the limit of every server; topics that find no room are told to readers', async () => {
	const w = world();
	const gaps = w.watch(w.connection.gaps);
	for (let i = 0; i < 900; i++) w.connection.subscribe(`topic-${i}`);
	await w.opened();
	w.socket.receive({ type: 'welcome', sessionId: 's' });
	for (let i = 0; i < 1_000; i++) w.socket.receive({ topic: `topic-${i}`, event: 'x', data: 0, seq: i });
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	const text = w.socket.sent[1];
	assert.ok(text.startsWith('{"type":"resume"') && text.length < 8_192 && text.length > 8_000, String(text.length));
	const named = Object.keys(JSON.parse(text).lastSeenSeqs);
	assert.ok(named.includes('topic-899') && !named.includes('topic-999'), 'topics that are read come first');
	const told = gaps.slice(1);
	assert.equal(told.length, 900 - named.length);
	assert.ok(told.every((g) => g.from === 'client' && !named.includes(g.topic)));
});

test('positions of ten thousand topics are remembered, those that moved last', async () => {
	const w = world({ resumeBytesMax: 1_000_000 });
	await w.opened();
	w.socket.receive({ type: 'welcome', sessionId: 's' });
	w.socket.receive({ topic: 'kept', event: 'x', data: 0, seq: 1 });
	for (let i = 0; i < 10_000; i++) {
		if (i === 5_000) w.socket.receive({ topic: 'kept', event: 'x', data: 0, seq: 2 });
		w.socket.receive({ topic: `t${i}`, event: 'x', data: 0, seq: 1 });
	}
	assert.equal(w.connection.stats().positions, 10_000);
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	const { lastSeenSeqs } = w.socket.take()[1];
	assert.equal(lastSeenSeqs.kept, 2);
	assert.equal('t0' in lastSeenSeqs, false);
});

test('marks of missed events are told apart from events', async () => {
	const w = world();
	const gaps = w.watch(w.connection.gaps);
	await w.opened();
	w.socket.receive({ topic: 'a', event: 'end', data: { reqId: 0, truncated: true } });
	w.socket.receive({ topic: 'b', event: 'end', data: { reqId: 'r1', truncated: true } });
	w.socket.receive({ topic: 'c', event: 'end', data: null });
	assert.deepEqual(gaps, [null, { topic: 'a', from: 'server' }]);
});

test('the last handler answers, and only it can take itself away', async () => {
	const w = world();
	await w.opened();
	const removeFirst = w.connection.onRequest(() => 'first');
	const removeSecond = w.connection.onRequest(async (event, data) => ({ event, data }));
	removeFirst();
	w.socket.receive({ type: 'request', ref: 1, event: 'ask', data: 2 });
	await turn();
	assert.deepEqual(w.socket.take(), [{ type: 'reply', ref: 1, data: { event: 'ask', data: 2 } }]);
	removeSecond();
	w.socket.receive({ type: 'request', ref: 2, event: 'ask', data: 2 });
	await turn();
	assert.deepEqual(w.socket.take(), []);
});

test('whatever a handler does, the answer is one that the server understands', async () => {
	const results = [
		[() => undefined, { data: null }],
		[() => () => {}, { data: null }],
		[() => Promise.reject(new Error('no')), { error: 'no' }],
		[() => { throw new Error(''); }, { error: 'Error' }],
		[() => { throw null; }, { error: 'null' }],
		[() => { throw 'text'; }, { error: 'text' }],
		[() => 1n, { error: 'Do not know how to serialize a BigInt' }]
	];
	const w = world();
	await w.opened();
	for (const [handler, expected] of results) {
		w.connection.onRequest(handler);
		w.socket.receive({ type: 'request', ref: 'r', event: 'e', data: null });
		await turn();
		assert.deepEqual(w.socket.take(), [{ type: 'reply', ref: 'r', ...expected }]);
	}
});

test('an answer does not go to a connection that did not ask', async () => {
	const w = world();
	await w.opened();
	let finish;
	w.connection.onRequest(() => new Promise((done) => (finish = done)));
	w.socket.receive({ type: 'request', ref: 1, event: 'e', data: null });
	w.socket.end();
	await w.clock.pass(3_000);
	await w.opened();
	finish('late');
	await turn();
	assert.deepEqual(w.socket.take(), []);
	assert.equal(w.connection.stats().requests, 0);
});

test('more questions than can be worked on are refused', async () => {
	const w = world();
	await w.opened();
	w.connection.onRequest(() => new Promise(() => {}));
	for (let i = 0; i < 1_001; i++) w.socket.receive({ type: 'request', ref: i, event: 'e', data: null });
	assert.deepEqual(w.socket.take(), [{ type: 'reply', ref: 1_000, error: 'more than 1000 requests at a time' }]);
	assert.equal(w.connection.stats().requests, 1_000);
});
