// In a page: its address, its storage, its visibility, and the preflight over HTTP.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { turn, world } from '../lib/virtual.mjs';

class Page extends EventTarget {
	hidden = false;
	#listening = 0;
	get listening() {
		return this.#listening;
	}
	addEventListener(...args) {
		this.#listening++;
		super.addEventListener(...args);
	}
	removeEventListener(...args) {
		this.#listening--;
		super.removeEventListener(...args);
	}
	show(shown) {
		this.hidden = !shown;
		this.dispatchEvent(new Event('visibilitychange'));
	}
}

function page(address = 'https://app.test/some/page') {
	globalThis.document = new Page();
	globalThis.window = Object.assign(new EventTarget(), { location: new URL(address) });
}

afterEach(() => {
	delete globalThis.document;
	delete globalThis.window;
	delete globalThis.sessionStorage;
});

const inPage = (options) => world({ url: undefined, ...options });

test('connects to the page’s own server', () => {
	page();
	assert.equal(inPage().socket.url, 'wss://app.test/ws');
	assert.equal(inPage({ path: '/live' }).socket.url, 'wss://app.test/live');
	page('http://localhost:5173/');
	assert.equal(inPage().socket.url, 'ws://localhost:5173/ws');
	assert.equal(inPage({ url: 'ws://other.test/x?y' }).socket.url, 'ws://other.test/x?y');
});

test('without a page and an address nothing is opened, and nobody waits', async () => {
	const w = inPage();
	assert.equal(w.sockets.length, 0);
	await w.connection.ready();
	assert.deepEqual(w.watch(w.connection.status), ['disconnected']);
	assert.deepEqual(w.watch(w.connection.on('a')), [null]);
	w.connection.connect({ path: '/x' });
	assert.equal(w.sockets.length, 0);
});

test('an address that comes later is still welcome where there was none', async () => {
	const w = inPage();
	const made = world();
	w.connection.sendQueued('kept');
	w.connection.connect({ url: 'ws://server.test/ws', WebSocket: made.socket.constructor, timers: made.clock });
	made.socket.open();
	assert.deepEqual(made.socket.take()[1], 'kept');
});

test('a hidden tab is suspended, a shown one open', async () => {
	page();
	const w = inPage();
	const status = w.watch(w.connection.status);
	await w.opened();
	document.show(false);
	assert.equal(w.connection.send('still'), true);
	document.show(true);
	document.show(true);
	assert.deepEqual(status, ['connecting', 'open', 'suspended', 'open']);
	document.hidden = true;
	w.socket.end();
	await w.clock.pass(3_000);
	await w.opened();
	assert.deepEqual(status.slice(4), ['disconnected', 'connecting', 'suspended']);
});

test('a tab that is shown comes back at once, one that is hidden does not', async () => {
	page();
	const w = inPage();
	await w.opened();
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.end();
	document.show(false);
	assert.equal(w.sockets.length, 2);
	document.show(true);
	assert.equal(w.sockets.length, 3);
	document.show(true);
	assert.equal(w.sockets.length, 3, 'an attempt that is under way is not doubled');
	w.socket.end();
	assert.equal(w.clock.next, 3_000, 'and the delays start over');
});

test('so does one whose network is back', async () => {
	page();
	const w = inPage();
	w.socket.end();
	window.dispatchEvent(new Event('online'));
	assert.equal(w.sockets.length, 2);
});

test('failed is failed, whatever the tab does', async () => {
	page();
	const w = inPage();
	await w.opened();
	w.socket.end(4403);
	document.show(false);
	document.show(true);
	window.dispatchEvent(new Event('online'));
	assert.equal(w.sockets.length, 1);
	assert.equal(document.listening, 0, 'it does not even listen any more');
});

test('the session survives in the page’s storage, per path', async () => {
	page();
	const stored = new Map([['svelte-adapter-uws.session./ws', 'before']]);
	globalThis.sessionStorage = { getItem: (k) => stored.get(k) ?? null, setItem: (k, v) => stored.set(k, v) };
	const w = inPage({ storage: undefined });
	await w.opened();
	w.socket.receive({ topic: 'a', event: 'x', data: 1, seq: 5 });
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	assert.equal(w.socket.take()[1].sessionId, 'before');
	w.socket.receive({ type: 'welcome', sessionId: 'now' });
	assert.equal(stored.get('svelte-adapter-uws.session./ws'), 'now');
});

test('a storage that throws is as good as none', async () => {
	page();
	Object.defineProperty(globalThis, 'sessionStorage', {
		configurable: true,
		get() {
			throw new Error('blocked');
		}
	});
	const w = inPage({ storage: undefined });
	await w.opened();
	w.socket.receive({ type: 'welcome', sessionId: 'now' });
	w.socket.receive({ topic: 'a', event: 'x', data: 1, seq: 5 });
	w.socket.end();
	await w.clock.pass(3_000);
	w.socket.open();
	assert.equal(w.socket.take()[1].sessionId, 'now', 'memory is enough for a reconnect');
});

/** Answers preflights with what stands in the list: a status, or an error. */
function preflights(...answers) {
	const asked = [];
	const fetch = async (url, init) => {
		asked.push([url, init.method, init.credentials, init.headers['x-requested-with']]);
		const answer = answers.shift();
		if (answer instanceof Error) throw answer;
		return { status: answer, statusText: '' };
	};
	return { fetch, asked };
}

test('the preflight comes before every connection', async () => {
	page();
	const { fetch, asked } = preflights(204, 204);
	const w = inPage({ auth: true, fetch });
	assert.equal(w.sockets.length, 0);
	await turn();
	await w.opened();
	w.socket.end();
	await w.clock.pass(3_000);
	assert.equal(w.sockets.length, 2);
	assert.deepEqual(asked, Array(2).fill(['https://app.test/__ws/auth', 'POST', 'include', 'XMLHttpRequest']));
});

test('a path of its own, on the server of the address', async () => {
	const { fetch, asked } = preflights(204);
	world({ url: 'wss://other.test:8443/deep/ws?q', auth: '/login', fetch });
	await turn();
	assert.equal(asked[0][0], 'https://other.test:8443/login');
});

for (const status of [401, 403, 404, 429]) {
	test(`a preflight answered with ${status} is the end`, async () => {
		const { fetch } = preflights(status);
		const w = world({ auth: true, fetch });
		const failure = w.watch(w.connection.failure);
		const ready = assert.rejects(w.connection.ready());
		await turn();
		await ready;
		assert.deepEqual(failure.at(-1), { kind: 'auth-preflight', class: 'AUTH', status, reason: 'unauthorized' });
		assert.deepEqual(w.watch(w.connection.status), ['failed']);
		assert.equal(w.clock.pending, 0);
	});
}

test('one that fails is tried again', async () => {
	const { fetch } = preflights(503, new TypeError('fetch failed'), 204);
	const w = world({ auth: true, fetch });
	const failure = w.watch(w.connection.failure);
	const status = w.watch(w.connection.status);
	await turn();
	assert.deepEqual(failure.at(-1), { kind: 'auth-preflight', class: 'AUTH', status: 503, reason: 'service unavailable' });
	await w.clock.pass(3_000);
	assert.deepEqual(failure.at(-1), { kind: 'auth-preflight', class: 'AUTH', status: 0, reason: 'network error' });
	await w.clock.pass(6_600);
	await w.opened();
	assert.deepEqual(status, ['connecting', 'disconnected', 'connecting', 'disconnected', 'connecting', 'open']);
	assert.equal(failure.at(-1), null);
});

test('closing ends the preflight that is under way', async () => {
	let signal;
	const fetch = (_, init) => {
		({ signal } = init);
		return new Promise(() => {});
	};
	const w = world({ auth: true, fetch });
	assert.equal(signal.aborted, false);
	w.connection.close();
	assert.equal(signal.aborted, true);
	assert.equal(w.clock.pending, 0);
});

test('one that never ends is given up, and its late answer opens nothing', async () => {
	let answer;
	const w = world({ auth: true, fetch: () => new Promise((done) => (answer = done)), maxReconnectInterval: 1e9, reconnectInterval: 1e9 });
	await w.clock.pass(30_000);
	answer({ status: 204, statusText: '' });
	await turn();
	assert.equal(w.sockets.length, 0);
	assert.deepEqual(w.watch(w.connection.status), ['disconnected']);
});
