// Subscribing: what is said to the server, and what is not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turn, warnings, world } from '../lib/virtual.mjs';

test('topics of one turn are asked for together, in frames that every server takes', async () => {
	const w = world();
	await w.opened();
	w.connection.on('only').subscribe(() => {});
	await turn();
	assert.deepEqual(w.socket.take(), [{ type: 'subscribe', topic: 'only', ref: 1 }]);
	for (let i = 0; i < 450; i++) w.connection.subscribe(`s${i}`);
	for (let i = 0; i < 60; i++) w.connection.subscribe(`${'é'.repeat(120)}${i}`);
	await turn();
	const texts = w.socket.sent;
	for (const text of texts) assert.ok(Buffer.byteLength(text) < 8_192 && text.startsWith('{"type":'), text.slice(0, 40));
	const frames = w.socket.take();
	assert.ok(frames.every((f) => f.type === 'subscribe-batch' && f.topics.length <= 200));
	assert.equal(frames.reduce((n, f) => n + f.topics.length, 0), 510);
	frames.slice(1).forEach(({ topics }, i) => {
		const before = frames[i].topics;
		const size = (list) => list.reduce((n, t) => n + Buffer.byteLength(JSON.stringify(t)) + 1, 50);
		assert.ok(before.length === 200 || size([...before, topics[0]]) > 8_000, 'no frame ends early');
	});
	assert.deepEqual(frames.map((f) => f.ref), frames.map((_, i) => i + 2), 'one number per frame, rising');
});

test('many readers are one subscription; the last one out ends it', async () => {
	const w = world();
	await w.opened();
	const leave = [1, 2, 3].map(() => w.connection.on('a').subscribe(() => {}));
	await turn();
	leave[0]();
	leave[0]();
	leave[1]();
	await turn();
	assert.deepEqual(w.socket.take(), [{ type: 'subscribe', topic: 'a', ref: 1 }]);
	leave[2]();
	await turn();
	assert.deepEqual(w.socket.take(), [{ type: 'unsubscribe', topic: 'a' }]);
	assert.equal(w.connection.stats().topics, 0);
});

test('taking and leaving in one turn says nothing, in either order', async () => {
	const w = world();
	await w.opened();
	w.connection.on('a').subscribe(() => {})();
	await turn();
	assert.deepEqual(w.socket.take(), []);
	const leave = w.connection.on('a').subscribe(() => {});
	await turn();
	w.socket.take();
	leave();
	w.connection.on('a').subscribe(() => {});
	await turn();
	assert.deepEqual(w.socket.take(), []);
});

test('a topic given up is said before the next message, so that a call cannot be undone by it', async () => {
	const w = world();
	await w.opened();
	const leave = w.connection.on('a').subscribe(() => {});
	await turn();
	w.socket.take();
	leave();
	w.connection.sendQueued({ rpc: 'resubscribe' });
	w.connection.on('b').subscribe(() => {});
	await turn();
	assert.deepEqual(w.socket.take(), [
		{ type: 'unsubscribe', topic: 'a' },
		{ rpc: 'resubscribe' },
		{ type: 'subscribe', topic: 'b', ref: 2 }
	]);
});

test('unsubscribe() ends a topic whoever reads it, until somebody new does', async () => {
	const w = world();
	await w.opened();
	const leave = w.connection.on('a').subscribe(() => {});
	w.connection.subscribe('a');
	await turn();
	w.connection.unsubscribe('a');
	await turn();
	assert.deepEqual(w.socket.take(), [{ type: 'subscribe', topic: 'a', ref: 1 }, { type: 'unsubscribe', topic: 'a' }]);
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	assert.equal(w.socket.take().length, 1, 'nor is it asked for again');
	w.connection.on('a').subscribe(() => {});
	await turn();
	assert.deepEqual(w.socket.take(), [{ type: 'subscribe', topic: 'a', ref: 2 }]);
	leave();
	await turn();
	assert.deepEqual(w.socket.take(), []);
});

test("the server's own topics are heard but never asked for", async () => {
	const w = world();
	const values = w.watch(w.connection.on('__presence:a'));
	w.connection.subscribe('__other');
	w.socket.open();
	await turn();
	assert.equal(w.socket.take().length, 1);
	w.connection.on('__late').subscribe(() => {})();
	w.connection.on('__late').subscribe(() => {});
	await turn();
	assert.deepEqual(w.socket.take(), []);
	w.socket.receive({ topic: '__presence:a', event: 'join', data: 1 });
	assert.equal(values.at(-1).data, 1);
});

test('names that no server takes are refused here', async () => {
	const w = world();
	const denials = w.watch(w.connection.denials);
	const names = ['', 'a'.repeat(257), 'quote"', 'back\\slash', 'line\nbreak'];
	const said = await warnings(async () => {
		for (const name of names) {
			const values = w.watch(w.connection.on(name));
			assert.deepEqual(values, [null]);
		}
		assert.equal(denials.length, 1, 'not before the turn ends, as the server could not either');
		await turn();
	});
	assert.deepEqual(denials.slice(1), names.map((topic) => ({ topic, reason: 'INVALID_TOPIC', ref: null })));
	assert.equal(said.length, names.length);
	w.connection.subscribe('a'.repeat(256));
	w.socket.open();
	assert.equal(w.socket.take()[1].topics.length, 1);
});

test('refusals of one turn are bounded', async () => {
	const w = world();
	const denials = w.watch(w.connection.denials);
	await warnings(async () => {
		for (let i = 0; i < 1_001; i++) w.connection.subscribe(`"${i}`);
		await turn();
	});
	assert.equal(denials.length, 1 + 1_000);
});

test('a topic that came with an answer is not refused by a connection that has not asked for it', async () => {
	const w = world({ reconnectInterval: 100 });
	await w.opened();
	const denials = w.watch(w.connection.denials);
	const answer = (data) => w.socket.receive({ topic: '__rpc', event: 'x1', data });
	const deny = (topic) => w.socket.receive({ type: 'subscribe-denied', topic, ref: 1, reason: 'FORBIDDEN' });
	const rejoin = async () => {
		w.socket.end();
		await w.clock.pass(200);
		await w.opened();
	};
	const topics = ['alone', 'batched', 'asked'];
	const leave = topics.map((topic) => w.connection.on(topic).subscribe(() => {}));
	answer({ ok: true, data: [], topic: 'alone' });
	answer({ batch: [null, { ok: true, topic: 'batched' }, { ok: false }] });
	await turn();
	await rejoin();
	// Given up before the server has answered: that changes nothing.
	leave[0]();
	await turn();
	const heard = await warnings(() => topics.forEach(deny));
	assert.deepEqual(denials.map((d) => d?.topic), [undefined, 'asked'], 'the one that no answer gave');
	assert.deepEqual([heard.length, w.connection.stats().withheld], [1, 2], 'counted instead');
	// The stream is asked for, and its topic after that: now the server means it.
	leave[1]();
	await turn();
	for (const topic of ['alone', 'batched']) w.connection.on(topic).subscribe(() => {});
	await turn();
	await warnings(() => topics.forEach(deny));
	assert.deepEqual(denials.map((d) => d?.topic), [undefined, 'asked', ...topics]);
});

test('a topic that was denied is asked for again by the next connection', async () => {
	const w = world();
	w.connection.subscribe('vault');
	await w.opened();
	await warnings(() => w.socket.receive({ type: 'subscribe-denied', topic: 'vault', ref: 1, reason: 'FORBIDDEN' }));
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	assert.deepEqual(w.socket.take()[1].topics, ['vault']);
});

test('a new reader gets the newest event of others, unless that is turned off', async () => {
	for (const handOver of [true, false]) {
		const w = world({ handOver });
		await w.opened();
		w.watch(w.connection.on('a'));
		w.watch(w.connection.on('a', 'x'));
		w.socket.receive({ topic: 'a', event: 'x', data: 1 });
		const envelope = { topic: 'a', event: 'x', data: 1 };
		const values = w.watch(w.connection.on('a'));
		const ofEvent = w.watch(w.connection.on('a', 'x'));
		assert.deepEqual(values, [handOver ? envelope : null]);
		assert.deepEqual(ofEvent, [handOver ? { data: 1 } : null]);
		w.socket.receive({ topic: 'a', event: 'y', data: 2 });
		assert.equal(values.length, 2);
		assert.equal(ofEvent.length, 1, 'other events do not concern it');
	}
});

test('after the last reader left, the topic starts afresh', async () => {
	const w = world();
	await w.opened();
	const leave = w.connection.on('a').subscribe(() => {});
	await turn();
	w.socket.receive({ topic: 'a', event: 'x', data: 1 });
	leave();
	assert.deepEqual(w.watch(w.connection.on('a')), [null], 'even within one turn');
});

test('readers of an event see all of it before anything that one of them causes', async () => {
	const w = world();
	const order = [];
	w.connection.on('a').subscribe((e) => {
		if (!e) return;
		order.push(`first ${e.data}`);
		if (e.data === 1) w.socket.receive({ topic: 'a', event: 'x', data: 2 });
	});
	w.connection.on('a').subscribe((e) => e && order.push(`second ${e.data}`));
	await w.opened();
	w.socket.receive({ topic: 'a', event: 'x', data: 1 });
	assert.deepEqual(order, ['first 1', 'second 1', 'first 2', 'second 2']);
});

test('more topics than there may be are refused', async () => {
	const w = world();
	const denials = w.watch(w.connection.denials);
	for (let i = 0; i < 100_000; i++) w.connection.subscribe(`t${i}`);
	await warnings(async () => {
		w.connection.subscribe('one too many');
		await turn();
	});
	assert.deepEqual(denials.at(-1), { topic: 'one too many', reason: 'RATE_LIMITED', ref: null });
});

// A naive model: the server's set, as the frames say it, is what the application wants.
test('whatever the order, the server ends up with what is wanted', async () => {
	for (const seed of [1, 7, 42, 1234, 99_991]) {
		const random = generator(seed);
		const w = world({ silenceTimeout: 0 });
		const readers = new Map(); // topic -> list of ways to leave
		const pinned = new Set();
		const server = new Set();
		const hear = () => {
			for (const f of w.socket.take()) {
				if (f.type === 'subscribe') server.add(f.topic);
				if (f.type === 'subscribe-batch') f.topics.forEach((t) => server.add(t));
				if (f.type === 'unsubscribe') assert.ok(server.delete(f.topic), `seed ${seed}: gave up what it did not have`);
			}
		};
		await w.opened();
		for (let step = 0; step < 2_000; step++) {
			const topic = `t${Math.floor(random() * 6)}`;
			const choice = random();
			if (choice < 0.35) {
				const list = readers.get(topic) ?? [];
				readers.set(topic, [...list, w.connection.on(topic).subscribe(() => {})]);
			} else if (choice < 0.7) {
				readers.get(topic)?.shift()?.();
			} else if (choice < 0.75) {
				w.connection.subscribe(topic);
				pinned.add(topic);
			} else if (choice < 0.8) {
				w.connection.unsubscribe(topic);
				pinned.delete(topic);
				readers.get(topic)?.splice(0).forEach((leave) => leave());
			} else if (choice < 0.83) {
				w.socket.end();
				server.clear();
				await w.clock.pass(w.clock.next);
				w.socket.open();
				w.socket.receive({ topic: 'other', event: 'x', data: 0 });
			} else if (choice < 0.9) {
				w.connection.send(step);
			} else {
				await turn();
				hear();
				const wanted = new Set(pinned);
				for (const [name, list] of readers) if (list.length > 0) wanted.add(name);
				assert.deepEqual([...server].sort(), [...wanted].sort(), `seed ${seed}, step ${step}`);
			}
		}
	}
});

function generator(seed) {
	let state = seed;
	return () => {
		state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
		return state / 2 ** 32;
	};
}
