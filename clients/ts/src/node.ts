// Programs without a browser: `import '@millstream/client-transport/node'` once, before the first use.
import { WebSocket } from 'ws';
import { useByDefault } from './environment.js';
import type { SocketConstructor } from './types.js';

/** Four bytes per code unit are more than the longest message that is read can have. */
const PAYLOAD_BYTES_MAX = 4 * 1_048_576;
const COOKIES_MAX = 50;
const ORIGINS_MAX = 100;

/** Origin -> name -> value. Cookies that the preflight sets, for the upgrade that follows it. */
const cookies = new Map<string, Map<string, string>>();

/** A socket that names the server's own origin, as a page of that server would. */
export class NodeSocket extends WebSocket {
	constructor(url: string) {
		const origin = originOf(url);
		const cookie = cookieHeader(origin);
		super(url, [], {
			origin,
			maxPayload: PAYLOAD_BYTES_MAX,
			headers: cookie === '' ? {} : { cookie }
		});
	}
}

/** `fetch` that keeps cookies, name and value only, for the sockets to the same server. */
export const nodeFetch: typeof fetch = async (input, init = {}) => {
	const origin = originOf(String(input instanceof Request ? input.url : input));
	const headers = new Headers(init.headers);
	const cookie = cookieHeader(origin);
	if (cookie !== '') headers.set('cookie', cookie);
	const response = await fetch(input, { ...init, headers });
	for (const line of response.headers.getSetCookie()) keep(origin, line);
	return response;
};

function keep(origin: string, line: string): void {
	const jar = cookies.get(origin) ?? new Map<string, string>();
	const [, name, value] = /^\s*([^=;\s]+)=([^;]*)/.exec(line) ?? [];
	if (name === undefined || value === undefined) return;
	jar.delete(name);
	if (!/;\s*max-age=(0|-\d+)\s*(;|$)/i.test(line)) jar.set(name, value);
	if (jar.size > COOKIES_MAX) jar.delete(jar.keys().next().value as string);
	cookies.set(origin, jar);
	if (cookies.size > ORIGINS_MAX) cookies.delete(cookies.keys().next().value as string);
}

const cookieHeader = (origin: string): string =>
	[...(cookies.get(origin) ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');

function originOf(url: string): string {
	const { protocol, host } = new URL(url);
	return `${protocol === 'wss:' || protocol === 'https:' ? 'https:' : 'http:'}//${host}`;
}

useByDefault({ WebSocket: NodeSocket as unknown as SocketConstructor, fetch: nodeFetch });
