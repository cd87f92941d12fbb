#!/usr/bin/env node
// Opens the server's page in two tabs of a headless browser and lets the page's own JavaScript
// connect, subscribe and publish, as an application served from there would. No packages needed:
// it speaks the WebDriver protocol to chromedriver over HTTP.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({ options: { url: { type: 'string' }, browser: { type: 'string' } } });
if (!options.url) {
	console.error('usage: test.mjs --url http://host:port/ [--browser PATH]');
	process.exit(2);
}

/** In the page: one connection that collects frames in `window.testFrames`. */
const OPEN = `
	const done = arguments[arguments.length - 1];
	const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/ws');
	window.testFrames = [];
	socket.onmessage = (m) => {
		const frame = JSON.parse(m.data);
		window.testFrames.push(frame);
		if (frame.type === 'welcome') socket.send(JSON.stringify({ type: 'subscribe', topic: arguments[0], ref: 1 }));
		if (frame.type === 'subscribed') done('subscribed');
		if (frame.type === 'subscribe-denied') done('denied: ' + frame.reason);
	};
	socket.onclose = (e) => done('closed with ' + e.code);`;
const PUBLISH = `
	const done = arguments[arguments.length - 1];
	fetch('/api/publish', { method: 'POST', headers: { 'content-type': 'application/json' },
		body: JSON.stringify({ topic: arguments[0], event: 'said', data: arguments[1] }) })
		.then((r) => done(r.status), (e) => done(String(e)));`;
const RECEIVED = `return window.testFrames.filter((f) => f.topic === arguments[0] && f.event === 'said').map((f) => f.data);`;

const topic = `browser-test:${process.pid}`;
let passed = 0;

function check(condition, what, detail) {
	if (!condition) throw new Error(`${what}: ${JSON.stringify(detail)}`);
	passed++;
	console.log(`PASS ${what}`);
}

const driver = await Driver();
try {
	const first = await driver.tab();
	await driver.go(options.url);
	check(/millstream/i.test(await driver.title()), 'the page has its title', await driver.title());
	check((await driver.runAsync(OPEN, topic)) === 'subscribed', 'a page of the server may connect and subscribe');
	const second = await driver.newTab();
	await driver.go(options.url);
	check((await driver.runAsync(OPEN, topic)) === 'subscribed', 'a second tab as well');
	const status = await driver.runAsync(PUBLISH, topic, 'hello');
	check(status >= 200 && status < 300, 'the page may publish over HTTP', status);
	for (const [tab, name] of [[first, 'first'], [second, 'second']]) {
		await driver.select(tab);
		const end = Date.now() + 5000;
		let got;
		do got = await driver.run(RECEIVED, topic); while (got.length === 0 && Date.now() < end);
		check(got.join() === 'hello', `the ${name} tab hears it once`, got);
	}
	const errors = await driver.severeLogs();
	check(errors.length === 0, 'the page logs no errors', errors);
	console.log(`${passed} passed, 0 failed`);
} catch (error) {
	console.log(`FAIL ${error.message}`);
	console.log(`${passed} passed, 1 failed`);
	process.exitCode = 1;
} finally {
	await driver.quit();
}

/** A chromedriver with one session. */
async function Driver() {
	const port = await freePort();
	const profile = mkdtempSync(join(tmpdir(), 'millstream-browser-'));
	const child = spawn('chromedriver', [`--port=${port}`], { stdio: 'ignore' });
	child.on('error', (error) => console.error(`chromedriver: ${error.message}`));
	const base = `http://127.0.0.1:${port}`;
	const ask = async (method, path, body) => {
		const response = await fetch(base + path, { method, body: body && JSON.stringify(body) });
		const { value } = await response.json();
		if (!response.ok) throw new Error(`${path}: ${value.message}`);
		return value;
	};
	await ready(ask);
	const args = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--user-data-dir=${profile}`];
	const chrome = { args, ...(options.browser ? { binary: options.browser } : {}) };
	const capabilities = { alwaysMatch: { browserName: 'chrome', 'goog:chromeOptions': chrome, 'goog:loggingPrefs': { browser: 'SEVERE' } } };
	const { sessionId } = await ask('POST', '/session', { capabilities });
	const session = (method, path, body) => ask(method, `/session/${sessionId}${path}`, body);
	await session('POST', '/timeouts', { script: 10_000, pageLoad: 20_000 });
	return {
		tab: () => session('GET', '/window'),
		select: (handle) => session('POST', '/window', { handle }),
		async newTab() {
			const { handle } = await session('POST', '/window/new', { type: 'tab' });
			await session('POST', '/window', { handle });
			return handle;
		},
		go: (url) => session('POST', '/url', { url }),
		title: () => session('GET', '/title'),
		run: (script, ...args) => session('POST', '/execute/sync', { script, args }),
		runAsync: (script, ...args) => session('POST', '/execute/async', { script, args }),
		severeLogs: async () => (await session('POST', '/se/log', { type: 'browser' })).filter((l) => !l.message.includes('favicon')),
		async quit() {
			await session('DELETE', '').catch(() => {});
			child.kill();
			rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
		}
	};
}

async function ready(ask) {
	const end = Date.now() + 15_000;
	for (;;) {
		try {
			if ((await ask('GET', '/status')).ready) return;
		} catch (error) {
			if (Date.now() > end) throw error;
		}
		await new Promise((done) => setTimeout(done, 100));
	}
}

function freePort() {
	return new Promise((done, reject) => {
		const probe = net.createServer().once('error', reject);
		probe.listen(0, '127.0.0.1', () => {
			const { port } = probe.address();
			probe.close(() => done(port));
		});
	});
}
