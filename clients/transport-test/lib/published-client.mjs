// The published client, unmodified, in the few pieces of a browser that it looks at.
import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { TracingSocket, trace } from './tracing-socket.mjs';

/** Loads `client.js` of an unpacked svelte-adapter-uws and connects it. */
export async function connectPublished(folder, serverUrl) {
	const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
	console.log(`client: ${name} ${version}, unmodified`);
	browser(serverUrl);
	// The package names `svelte` as a peer: it gets ours, wherever the folder lies.
	const stores = JSON.stringify(import.meta.resolve('svelte/store'));
	const hook = `export const resolve = (name, context, next) =>
		name === 'svelte/store' ? { url: ${stores}, shortCircuit: true } : next(name, context);`;
	register(`data:text/javascript,${encodeURIComponent(hook)}`);
	const client = await import(pathToFileURL(join(resolve(folder), 'client.js')).href);

	const connection = client.connect({ reconnectInterval: 400 });
	const seen = new Map();
	return {
		...trace,
		subscribe(topic) {
			seen.set(topic, []);
			client.on(topic).subscribe((event) => { if (event) seen.get(topic).push(event); });
		},
		events: (topic) => seen.get(topic) ?? [],
		close: () => connection.close()
	};
}

/** A window, a document and a session storage as far as the client uses them. */
function browser(serverUrl) {
	const stored = new Map();
	const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
	define('window', { location: new URL(serverUrl), addEventListener() {}, removeEventListener() {} });
	define('document', { hidden: false, addEventListener() {}, removeEventListener() {} });
	define('sessionStorage', { getItem: (k) => stored.get(k) ?? null, setItem: (k, v) => stored.set(k, String(v)) });
	define('WebSocket', TracingSocket);
}
