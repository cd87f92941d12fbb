// The published svelte-realtime client sends bytes to the conformance application, over our transport
// and real sockets. CONFORMANCE_BIN names the binary; without it there is nothing to test.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import '../../dist/node.js';
import { Server } from '../lib/server.mjs';

const skip = process.env.CONFORMANCE_BIN ? false : 'CONFORMANCE_BIN is not set';
const server = skip ? null : await Server.named('CONFORMANCE_BIN');
const rt = skip ? null : await import('svelte-realtime/client');
const transport = skip ? null : await import('svelte-adapter-uws/client');
if (!skip) transport.connect({ url: server.url });
after(async () => {
	if (skip) return;
	transport.connect().close?.();
	await server.stop();
});

/** Bytes, and their sum as the application reckons it. */
function bytes(count) {
	const data = Uint8Array.from({ length: count }, (_, i) => i % 251);
	return { data, sum: data.reduce((sum, byte) => (sum + byte) % 65_536, 0) };
}

test('a call with bytes', { skip }, async () => {
	const { data, sum } = bytes(1_000);
	const reply = await rt.__binaryRpc('bin/sum')(data, 'one', { two: 2 });
	assert.deepEqual(reply, { bytes: 1_000, sum, args: ['one', { two: 2 }] });
	await assert.rejects(rt.__binaryRpc('bin/sum')(bytes(1_025).data), { code: 'PAYLOAD_TOO_LARGE' });
	await assert.rejects(rt.__binaryRpc('bin/fail')(data, 'OWN_CODE'), { code: 'OWN_CODE' });
});

test('an upload tells its progress and arrives whole, however slow its function', { skip }, async () => {
	const { data, sum } = bytes(190_000);
	const handle = rt.__upload('up/slow')(new Blob([data]), 40);
	const progress = [];
	handle.on('progress', (p) => progress.push(p));
	const reply = await handle;
	assert.equal(reply.bytes, 190_000);
	assert.equal(reply.sum, sum);
	assert.ok(reply.chunks > 8, `${reply.chunks} chunks, more than may wait`);
	assert.ok(progress.length > 1, 'progress was told');
});

test('once the largest frame is known, chunks are that large', { skip }, async () => {
	const reply = await rt.__upload('up/sum')(bytes(190_000).data, 'big');
	assert.equal(reply.name, 'big');
	assert.ok(reply.chunks <= 4, `${reply.chunks} chunks of at most 65,536 bytes`);
});

test('an upload that is cancelled ends there and here', { skip }, async () => {
	const log = `cancel-${Date.now()}`;
	let feed;
	const source = new ReadableStream({ start: (controller) => void (feed = controller) });
	const handle = rt.__upload('up/watch')(source, log);
	// A client sends whole chunks, and keeps one back that may be the last.
	feed.enqueue(bytes(190_000).data);
	const failed = assert.rejects(Promise.resolve(handle), { code: 'CANCELLED' });
	await new Promise((done) => setTimeout(done, 200));
	handle.cancel();
	await failed;
	for (let tries = 0; ; tries++) {
		const lines = await rt.__rpc('ctl/readLog')(log);
		if (lines.length > 0 || tries > 50) {
			assert.deepEqual(lines, ['ended CANCELLED']);
			break;
		}
		await new Promise((done) => setTimeout(done, 20));
	}
});

test('what fails has its code', { skip }, async () => {
	await assert.rejects(Promise.resolve(rt.__upload('up/small')(bytes(2_000).data)), { code: 'PAYLOAD_TOO_LARGE' });
	await assert.rejects(Promise.resolve(rt.__upload('up/missing')(bytes(10).data)), { code: 'NOT_FOUND' });
	await assert.rejects(Promise.resolve(rt.__upload('upx/sum')(bytes(10).data)), { code: 'UNAUTHENTICATED' });
});
