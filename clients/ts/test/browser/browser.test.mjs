// The client, and svelte-realtime on top of it, bundled and run in a headless Chromium.
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { WebSocketServer } from 'ws';
import { openInBrowser, withoutChromium } from '../lib/chromium.mjs';

const WAIT_MS = 40_000;
const SIZE_MAX = 9_000;

const local = (name) => fileURLToPath(new URL(name, import.meta.url));
const bundle = async (entry) => {
	const options = { bundle: true, minify: true, format: 'esm', platform: 'browser', write: false, logLevel: 'error' };
	return (await build({ entryPoints: [entry], ...options })).outputFiles[0].contents;
};

test('the client alone is small', async () => {
	const size = gzipSync(await bundle(local('../../dist/index.js'))).length;
	assert.ok(size <= SIZE_MAX, `${size} bytes, compressed`);
});

test('works in a browser', { skip: withoutChromium }, async () => {
	const script = await bundle(local('page.js'));
	const site = await Site.open(script);
	let close;
	try {
		close = await openInBrowser(site.url);
		const result = await site.report;
		assert.equal(result.failed, undefined);
		assert.deepEqual(result, {
			answer: 'hello',
			again: 'again',
			statuses: ['connecting', 'open', 'disconnected', 'connecting', 'open'],
			rooms: [{ id: 1 }, { id: 2 }],
			event: { topic: 'rooms', event: 'created', data: { id: 2 } },
			items: [{ id: 'reloaded' }]
		});
		const [first, second] = site.connections;
		assert.deepEqual(first[0], { type: 'hello', caps: ['batch'] });
		assert.deepEqual(second.slice(0, 2), [
			{ type: 'hello', caps: ['batch'] },
			{ type: 'resume', sessionId: 'session-1', lastSeenSeqs: { rooms: 7, items: 9 } }
		]);
		assert.deepEqual(second[2].topics.sort(), ['items', 'rooms']);
	} finally {
		await close?.();
		site.close();
	}
});

/** A page, and a server that knows three functions and two topics. */
class Site {
	connections = [];

	static async open(script) {
		const site = new Site();
		let told;
		site.report = new Promise((done, reject) => {
			told = done;
			site.timer = setTimeout(() => reject(new Error('the page did not report')), WAIT_MS);
		});
		site.server = http.createServer(async (request, response) => {
			if (request.url === '/report') {
				const parts = await request.toArray();
				told(JSON.parse(Buffer.concat(parts).toString()));
			}
			const page = request.url === '/';
			response.setHeader('content-type', page ? 'text/html' : 'text/javascript');
			response.end(page ? '<!doctype html><script type="module" src="/page.js"></script>' : script);
		});
		site.sockets = new WebSocketServer({ server: site.server, path: '/ws' });
		site.sockets.on('connection', (socket) => site.#serve(socket));
		await new Promise((done) => site.server.listen(0, '127.0.0.1', done));
		site.url = `http://127.0.0.1:${site.server.address().port}/`;
		return site;
	}

	#serve(socket) {
		const frames = [];
		const number = this.connections.push(frames);
		const send = (frame) => socket.send(JSON.stringify(frame));
		const subscribed = (topic, ref) => {
			send({ type: 'subscribed', topic, ref });
			if (number > 1) return;
			const seq = topic === 'rooms' ? 7 : 9;
			send({ type: 'batch', events: [{ topic, event: 'created', data: { id: 2 }, seq }] });
		};
		send({ type: 'welcome', sessionId: `session-${number}` });
		socket.on('message', (data) => {
			const frame = JSON.parse(data.toString());
			frames.push(frame);
			for (const topic of frame.topics ?? (frame.type === 'subscribe' ? [frame.topic] : [])) subscribed(topic, frame.ref);
			if (frame.rpc === 'm/cut') socket.terminate();
			else if (frame.rpc) send({ topic: '__rpc', event: frame.id, data: answer(frame, number) });
		});
	}

	close() {
		clearTimeout(this.timer);
		for (const socket of this.sockets.clients) socket.terminate();
		this.server.close();
		this.server.closeAllConnections();
	}
}

function answer({ rpc, id, args }, number) {
	if (rpc === 'm/echo') return { id, ok: true, data: args[0] };
	const data = number === 1 ? [{ id: 1 }] : [{ id: 'reloaded' }];
	return { id, ok: true, data, topic: 'items', merge: 'crud', key: 'id' };
}
