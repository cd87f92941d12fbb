// The unmodified svelte-realtime on our client, in Node, against the conformance application named by
// CONFORMANCE_BIN. Every page is a client of its own: modules loaded anew, a connection of its own.
import { after, test } from 'node:test';
import { NodeSocket } from '../../dist/node.js';
import { freshPage } from '../lib/fresh.mjs';
import { Server } from '../lib/server.mjs';
import { Site } from '../lib/site.mjs';
import { checks } from './checks/index.js';
import { World, settings } from './checks/world.js';

const server = await Server.named('CONFORMANCE_BIN');
const site = await Site.open({ serverPort: server.port });
const world = new World({
	load: async () => {
		const [rt, transport] = await freshPage('svelte-realtime/client', 'svelte-adapter-uws/client');
		return { rt, transport };
	},
	address: (query) => ({ url: `ws://${site.host}/ws?${query}`, WebSocket: NodeSocket }),
	order: async ({ restart, page, act, args }) => {
		if (!restart) return site.act(page, act, ...args);
		await server.kill();
		await server.restart();
	},
	settings: settings(process.env)
});

// Refusals are expected here, and the console is not where they are looked for.
console.warn = () => {};
after(async () => {
	site.close();
	await server.stop();
});
for (const { name, run, browser } of checks) {
	test(name, { skip: browser ? 'needs a browser' : false }, async () => {
		try {
			await run(world);
		} finally {
			world.closePages();
		}
	});
}
