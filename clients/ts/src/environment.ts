// What the surroundings offer: a browser's page, or a program without one.
import { FRAME_MAX_MS } from './limits.js';
import type { ConnectOptions, SocketConstructor, Timers } from './types.js';

/** Everything the connection needs from outside, so that tests can put their own in its place. */
export interface Environment {
	Socket: SocketConstructor | undefined;
	fetch: typeof fetch;
	timers: Timers;
	now: () => number;
	random: () => number;
	storage: Pick<Storage, 'getItem' | 'setItem'> | null;
	log: (what: string, detail?: unknown) => void;
}

/** Looked up when used: a test, or a program that starts late, may replace them. */
const globals: Timers = {
	setTimeout: (run, ms) => globalThis.setTimeout(run, ms),
	clearTimeout: (handle) => globalThis.clearTimeout(handle)
};

const defaults: { Socket?: SocketConstructor; fetch?: typeof fetch } = {};

/** Says which WebSocket and fetch to use where an option does not. */
export function useByDefault(given: { WebSocket?: SocketConstructor; fetch?: typeof fetch }): void {
	if (given.WebSocket) defaults.Socket = given.WebSocket;
	if (given.fetch) defaults.fetch = given.fetch;
}

export function environment(options: ConnectOptions): Environment {
	const { debug } = options;
	return {
		Socket:
			options.WebSocket ??
			defaults.Socket ??
			(globalThis.WebSocket as unknown as SocketConstructor | undefined),
		fetch: options.fetch ?? defaults.fetch ?? ((input, init) => globalThis.fetch(input, init)),
		timers: options.timers ?? globals,
		now: options.now ?? (() => Date.now()),
		random: options.random ?? (() => Math.random()),
		storage: options.storage === undefined ? sessionStorageIfAny() : options.storage,
		log: typeof debug === 'function' ? debug : debug ? toConsole : () => {}
	};
}

/** Where to connect to, and where the preflight and the session id of that place are. */
export interface Place {
	socket: string;
	auth: string | null;
	storageKey: string;
}

/** Null where there is neither an address nor a page: on a server that renders pages, say. */
export function place(options: ConnectOptions): Place | null {
	const path = options.path ?? '/ws';
	const authPath = options.auth === true ? '/__ws/auth' : options.auth || null;
	if (options.url !== undefined) {
		const url = new URL(options.url);
		if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
			throw new TypeError(`the url has to start with ws: or wss:, not ${url.protocol}`);
		}
		const http = `${url.protocol === 'wss:' ? 'https:' : 'http:'}//${url.host}`;
		return {
			socket: options.url,
			auth: authPath === null ? null : new URL(authPath, http).href,
			storageKey: `${STORAGE_PREFIX}${url.host}${url.pathname}`
		};
	}
	if (typeof window === 'undefined' || !window.location) return null;
	const { protocol, host } = window.location;
	return {
		socket: `${protocol === 'https:' ? 'wss:' : 'ws:'}//${host}${path}`,
		auth: authPath === null ? null : `${protocol}//${host}${authPath}`,
		storageKey: `${STORAGE_PREFIX}${path}`
	};
}

/** The published client's key, so that a page that changes from one to the other keeps its session. */
const STORAGE_PREFIX = 'svelte-adapter-uws.session.';

export const isHidden = (): boolean => typeof document !== 'undefined' && document.hidden === true;

/**
 * Runs something with the page's next frame, behind what scripts have put off to it before; at once
 * where there are no frames: outside of pages, and in hidden ones. Some pages that count as shown are
 * not drawn for long, so it runs after a second at the latest. Returns the way to call it off.
 */
export function nextFrame(timers: Timers, run: () => void): () => void {
	if (
		typeof document === 'undefined' ||
		typeof requestAnimationFrame !== 'function' ||
		isHidden()
	) {
		run();
		return () => {};
	}
	const callOff = () => {
		cancelAnimationFrame(frame);
		timers.clearTimeout(late);
		document.removeEventListener('visibilitychange', now);
	};
	const now = () => {
		callOff();
		run();
	};
	const frame = requestAnimationFrame(now);
	const late = timers.setTimeout(now, FRAME_MAX_MS);
	document.addEventListener('visibilitychange', now);
	return callOff;
}

/** Calls back when the tab is shown or hidden, and when the network is there again. */
export function watchPage(shown: () => void, online: () => void): () => void {
	if (typeof document === 'undefined' || typeof window === 'undefined') return () => {};
	document.addEventListener('visibilitychange', shown);
	window.addEventListener('online', online);
	return () => {
		document.removeEventListener('visibilitychange', shown);
		window.removeEventListener('online', online);
	};
}

/** Merely looking at it throws where cookies are blocked. */
function sessionStorageIfAny(): Pick<Storage, 'getItem' | 'setItem'> | null {
	try {
		return globalThis.sessionStorage ?? null;
	} catch {
		return null;
	}
}

function toConsole(what: string, detail?: unknown): void {
	if (detail === undefined) console.log(`[ws] ${what}`);
	else console.log(`[ws] ${what}`, detail);
}
