// vectors/transport-frames.json: what a client does with every frame of a server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { turn, warnings, world } from '../lib/virtual.mjs';

const file = new URL('../../../../vectors/transport-frames.json', import.meta.url);
const vectors = JSON.parse(readFileSync(file, 'utf8')).filter((v) => v.direction === 'server-to-client');
const handlers = {
	echo: (event, data) => ({ event, data }),
	throw: () => {
		throw new Error('no thanks');
	},
	void: () => {}
};
/** As JSON sees it: absent data and undefined data are the same. */
const plain = (value) => JSON.parse(JSON.stringify(value));

test('there are vectors', () => assert.ok(vectors.length >= 46));

for (const { name, encoding, frame, check } of vectors) {
	test(name, async () => {
		const stored = new Map();
		const w = world({ storage: { getItem: (k) => stored.get(k) ?? null, setItem: (k, v) => stored.set(k, v) } });
		await w.opened();
		if (check.setup?.onRequest) w.connection.onRequest(handlers[check.setup.onRequest]);
		const events = w.watch(w.connection.events);
		const denials = w.watch(w.connection.denials);
		const bytes = Buffer.from(frame, 'hex');
		await warnings(async () => {
			w.socket.receive(encoding === 'text' ? frame : bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
			await turn();
		});
		if (check.dispatch) assert.deepEqual(plain(events.slice(1)), check.dispatch);
		if (check.denials) assert.deepEqual(denials.slice(1), check.denials);
		if (check.sends) assert.deepEqual(w.socket.sent, check.sends);
		if ('session' in check) assert.equal([...stored.values()][0] ?? null, check.session);
		if (check.seqs) {
			w.socket.receive({ type: 'welcome', sessionId: 's' });
			w.socket.end();
			await w.clock.pass(3_000);
			w.socket.open();
			const resume = w.socket.take().find((f) => f.type === 'resume');
			assert.deepEqual(resume?.lastSeenSeqs ?? {}, check.seqs);
		}
	});
}

test('a message of 1,048,576 units is read, a longer one is not', async () => {
	const w = world();
	const events = w.watch(w.connection.events);
	await w.opened();
	const frame = (units) => {
		const head = '{"topic":"a","event":"b","data":"';
		return `${head}${'é'.repeat(units - head.length - 2)}"}`;
	};
	w.socket.receive(frame(1_048_576));
	assert.equal(events.length, 2);
	w.socket.receive(frame(1_048_577));
	assert.equal(events.length, 2);
	assert.equal(w.connection.stats().ignored, 1);
});
