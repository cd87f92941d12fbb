// The same checks in a page of a headless Chromium, bundled as an application's page would be.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { openInBrowser, withoutChromium } from '../lib/chromium.mjs';
import { Server } from '../lib/server.mjs';
import { Site } from '../lib/site.mjs';
import { checks } from './checks/index.js';
import { settings } from './checks/world.js';

/** How long the page may take for one check, before or between its answers. */
const SILENCE_MS = 120_000;
const HTML = '<!doctype html><title>checks</title><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>';

const bundle = async (name) => {
	const entry = fileURLToPath(new URL(name, import.meta.url));
	const options = { bundle: true, format: 'esm', platform: 'browser', write: false, logLevel: 'error', target: 'es2022' };
	return (await build({ entryPoints: [entry], ...options })).outputFiles[0].contents;
};

test('in a browser', { skip: withoutChromium }, async (t) => {
	const server = await Server.named('CONFORMANCE_BIN');
	const results = new Results();
	const options = settings(process.env);
	const site = await Site.open({
		serverPort: server.port,
		files: {
			'/': ['text/html', HTML],
			'/page.js': ['text/javascript', await bundle('page.js')],
			'/client.js': ['text/javascript', await bundle('client.js')]
		},
		order: async ({ settings: asked, result, restart, page, act, args }) => {
			if (asked) return options;
			if (result !== undefined) return results.add(result);
			if (!restart) return site.act(page, act, ...args);
			await server.kill();
			await server.restart();
		}
	});
	let close;
	try {
		close = await openInBrowser(`http://${site.host}/`);
		for (const { name } of checks) {
			await t.test(name, async () => {
				const result = await results.next(SILENCE_MS + options.seconds * 1_000);
				assert.equal(result?.name, name);
				assert.equal(result.problem, null);
			});
		}
		assert.equal(await results.next(SILENCE_MS), null, 'the page has nothing more to tell');
	} finally {
		await close?.();
		site.close();
		await server.stop();
	}
});

/** What the page tells, in its order. */
class Results {
	#told = [];
	#waiting = null;

	add(result) {
		this.#told.push(result);
		this.#waiting?.();
		return null;
	}

	async next(ms) {
		if (this.#told.length === 0) {
			let late;
			await new Promise((done, reject) => {
				this.#waiting = done;
				late = setTimeout(() => reject(new Error('the page fell silent')), ms);
			}).finally(() => clearTimeout(late));
		}
		return this.#told.shift();
	}
}
