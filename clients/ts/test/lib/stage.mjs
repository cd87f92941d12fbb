// A recorded session is played to svelte-realtime on top of our client: a WebSocket server does what
// the record says the server did, and what the client and its stores do is written down.
import assert from 'node:assert/strict';
import http from 'node:http';
import { mock } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { freshPage } from './fresh.mjs';
import { Clock } from './virtual.mjs';

const rounds = async (n) => {
	for (let i = 0; i < n; i++) await new Promise((done) => setImmediate(done));
};

export class Stage {
	log = [];
	/** What the server received, and what the client sent, as they came. */
	#received = [];
	#sent = [];
	#knocks = [];
	#next = 0;
	#peer = null;
	#sockets = [];
	#clock = new Clock();

	static async play({ transcript, name }, scenario, options = {}) {
		const stage = new Stage();
		stage.transcript = transcript;
		await stage.#begin(options);
		try {
			await scenario(stage, stage.rt, stage.transport);
			await stage.rest();
			await stage.#settle();
			assert.deepEqual(stage.#received, stage.#sent, `${name}: the server got what the client sent`);
			return [...stage.log];
		} finally {
			await stage.#end();
		}
	}

	/** The next thing that the record says happens to the client. Reactions are skipped. */
	async play(times = 1) {
		for (; times > 0; times--) {
			while (!isStimulus(this.transcript[this.#next])) {
				assert.ok(this.#next < this.transcript.length, 'the record has nothing more to play');
				this.#next++;
			}
			await this.#stimulate(this.transcript[this.#next++]);
		}
	}

	/** All that is left. */
	async rest() {
		while (this.transcript.slice(this.#next).some(isStimulus)) await this.play();
	}

	/** Notes what a store shows. Returns the way to stop. */
	watch(name, store) {
		return store.subscribe((value) => this.log.push({ store: name, value: noted(value) }));
	}

	/** Notes how a promise settles. */
	result(name, promise) {
		Promise.resolve(promise).then(
			(value) => this.log.push({ result: name, value: noted(value) }),
			(error) => this.log.push({ result: name, error: notedError(error) })
		);
	}

	/** Notes something that the application did. */
	app(what) {
		this.log.push({ app: what });
	}

	/** Lets everything happen that is about to. */
	settle() {
		return this.#settle();
	}

	async #begin(options) {
		this.server = http.createServer();
		this.wss = new WebSocketServer({ noServer: true });
		this.server.on('upgrade', (...knock) => this.#knocks.push(knock));
		await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
		const stage = this;
		globalThis.WebSocket = class extends WebSocket {
			constructor(url) {
				super(url);
				stage.#sockets.push(this);
			}
			send(data) {
				stage.log.push(outgoing(data));
				stage.#sent.push(outgoing(data));
				super.send(data);
			}
		};
		for (const name of ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval']) {
			mock.method(globalThis, name, this.#clock[name]);
		}
		mock.method(Date, 'now', this.#clock.now);
		mock.method(Math, 'random', () => 0.5);
		mock.method(console, 'warn', () => {});
		[this.rt, this.transport] = await freshPage('svelte-realtime/client', 'svelte-adapter-uws/client');
		this.url = `ws://127.0.0.1:${this.server.address().port}/ws`;
		this.connection = this.transport.connect({ url: this.url, ...options });
	}

	async #end() {
		this.connection.close();
		mock.reset();
		delete globalThis.WebSocket;
		for (const socket of this.#sockets) socket.terminate();
		for (const client of this.wss.clients) client.terminate();
		for (const [, socket] of this.#knocks) socket.destroy();
		this.server.close();
		this.server.closeAllConnections();
	}

	async #stimulate(step) {
		await rounds(1);
		if (step.app) return this.app(step.app);
		if (step.client) await this.#until(() => this.#knocks.length > 0, 'a connection');
		this.log.push(step);
		if (step.socket === 'opens') await this.#open();
		if (step.socket === 'closes') await this.#close(step.code);
		if (step.in) this.#peer.send(JSON.stringify(step.in));
		if (step.wait) await this.#clock.pass(step.wait);
		await this.#settle();
	}

	async #open() {
		const [request, socket, head] = this.#knocks.shift();
		this.wss.handleUpgrade(request, socket, head, (peer) => (this.#peer = peer));
		this.#peer.on('message', (data, binary) =>
			this.#received.push(outgoing(binary ? data : data.toString()))
		);
		await this.#until(() => this.#sockets.at(-1).readyState === WebSocket.OPEN, 'an open socket');
	}

	async #close(code) {
		if (code === 1006) this.#peer.terminate();
		else this.#peer.close(code);
		this.#peer = null;
		await this.#until(() => this.#sockets.at(-1).readyState === WebSocket.CLOSED, 'a closed socket');
	}

	/** Twice there and back: whatever either side was about to send has arrived. */
	async #settle() {
		await rounds(3);
		for (let i = 0; i < 2 && this.#peer?.readyState === WebSocket.OPEN; i++) {
			let answered = false;
			this.#peer.once('pong', () => (answered = true));
			this.#peer.ping();
			await this.#until(() => answered, 'an answer to a ping');
			await rounds(3);
		}
	}

	async #until(condition, what) {
		for (let i = 0; i < 100_000; i++) {
			if (condition()) return;
			await rounds(1);
		}
		throw new Error(`waited in vain for ${what}`);
	}
}

const isStimulus = (step) =>
	step && ('in' in step || 'wait' in step || 'socket' in step || 'client' in step || step.app === 'no reply');

const outgoing = (data) =>
	typeof data === 'string'
		? { out: JSON.parse(data) }
		: { outBinary: Buffer.from(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength).toString('hex') };

const noted = (value) => (value === undefined ? '<undefined>' : value instanceof Error ? notedError(value) : structuredClone(value));

function notedError({ code, message, issues }) {
	return issues === undefined ? { code, message } : { code, message, issues };
}
