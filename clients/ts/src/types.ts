// The public types.

export type Unsubscribe = () => void;

/** A Svelte store, as far as reading goes. */
export interface Readable<T> {
	/** Calls `run` with the present value before it returns, and with every later one. */
	subscribe(this: void, run: (value: T) => void, invalidate?: () => void): Unsubscribe;
}

/** An event as it is handed to readers. */
export interface Envelope<T = unknown> {
	topic: string;
	event: string;
	data: T;
}

export type Ref = number | string;

/**
 * `connecting`; `open`; `suspended`: open, in a hidden tab; `disconnected`: will be tried again, and
 * the value before the first attempt; `failed`: will not be tried again.
 */
export type Status = 'connecting' | 'open' | 'suspended' | 'disconnected' | 'failed';

/** Why the connection is not open. Null while it is, and after `close()`. */
export type Failure =
	| {
			kind: 'ws-close';
			class: 'TERMINAL' | 'THROTTLE' | 'RETRY' | 'EXHAUSTED';
			code: number;
			reason: string;
	  }
	| { kind: 'auth-preflight'; class: 'AUTH'; status: number; reason: string };

/** A topic that was refused. `ref` is null when it was refused here, without asking the server. */
export interface Denial {
	topic: string;
	reason: string;
	ref: unknown;
}

/**
 * A topic of which events were missed. `server`: the server said so; `client`: the resume frame had no
 * room for the topic, so the server cannot know.
 */
export interface Gap {
	topic: string;
	from: 'server' | 'client';
}

export type RequestHandler = (event: string, data: any) => unknown;

/** What a WebSocket has to offer. The browser's and that of `ws` do. */
export interface SocketLike {
	readonly readyState: number;
	readonly bufferedAmount: number;
	binaryType: string;
	onopen: ((event: any) => void) | null;
	onmessage: ((event: any) => void) | null;
	onclose: ((event: any) => void) | null;
	onerror: ((event: any) => void) | null;
	send(data: any): void;
	close(code?: number, reason?: string): void;
}

export type SocketConstructor = new (url: string) => SocketLike;

export interface Timers {
	setTimeout(run: () => void, ms: number): unknown;
	clearTimeout(handle: any): void;
}

export interface ConnectOptions {
	/** Full `ws:` or `wss:` address. Without it, `path` on the page's own server. */
	url?: string;
	/** Endpoint on the page's server. Default `/ws`. */
	path?: string;
	/** First delay before coming back, in milliseconds. Default 3,000. */
	reconnectInterval?: number;
	/** Largest delay before coming back, in milliseconds. Default 300,000. */
	maxReconnectInterval?: number;
	/** Attempts in a row before giving up. Default: never. */
	maxReconnectAttempts?: number;
	/** Ask `/__ws/auth`, or the given path, before every connection. Default false. */
	auth?: boolean | string;
	/** Say what happens on the console, or to a function. Default false. */
	debug?: boolean | ((what: string, detail?: unknown) => void);
	/** Give a new reader of a topic the newest event others have already seen. Default true. */
	handOver?: boolean;
	/** Milliseconds without a message before an open connection is given up, 0: never. Default 150,000. */
	silenceTimeout?: number;
	/** Milliseconds for one attempt to connect, 0: as long as it takes. Default 30,000. */
	openTimeout?: number;
	/** Messages that may wait for a connection. Default 1,000; the oldest are dropped. */
	queueMax?: number;
	/** Bytes that may wait for a connection. Default 64 MiB. */
	queueBytesMax?: number;
	/** Bytes of the resume frame. Default 8,191, which every server takes. */
	resumeBytesMax?: number;
	/** The WebSocket to use. Default: the global one. */
	WebSocket?: SocketConstructor;
	/** The fetch to use for `auth`. Default: the global one. */
	fetch?: typeof fetch;
	/** The timers to use. Default: the global ones. */
	timers?: Timers;
	/** The clock, in milliseconds. Default `Date.now`. */
	now?: () => number;
	/** Random numbers in [0, 1) for the jitter. Default `Math.random`. */
	random?: () => number;
	/** Where the session id survives a reload, null: in memory only. Default `sessionStorage`. */
	storage?: Pick<Storage, 'getItem' | 'setItem'> | null;
}

/** A snapshot of counters, for dashboards and bug reports. */
export interface Stats {
	/** Connections opened so far. */
	opened: number;
	/** Attempts since the connection was last healthy. */
	attempt: number;
	/** Topics with a reader, and those the server said yes to. */
	topics: number;
	acknowledged: number;
	/** Messages received, and those of them that meant nothing to us. */
	received: number;
	ignored: number;
	/** Denials that `denials` does not tell: of streams' topics that a new connection asked for too early. */
	withheld: number;
	/** Messages that wait, their size, and those dropped because there was no room. */
	queued: number;
	queuedBytes: number;
	dropped: number;
	/** Topics whose position is remembered. */
	positions: number;
	/** Questions of the server that are being answered. */
	requests: number;
	/** When the last message came, in milliseconds of the clock; 0 before the first. */
	lastMessageAt: number;
}

export interface Connection {
	/** Every event, whatever its topic. Null before the first. */
	readonly events: Readable<Envelope | null>;
	readonly status: Readable<Status>;
	readonly denials: Readable<Denial | null>;
	readonly failure: Readable<Failure | null>;
	readonly gaps: Readable<Gap | null>;
	on<T = any>(topic: string): TopicStore<Envelope<T>>;
	on<T = any>(topic: string, event: string): TopicStore<{ data: T }>;
	/** Asks for a topic without reading it. */
	subscribe(topic: string): void;
	/** Gives a topic up at once, whoever reads it. */
	unsubscribe(topic: string): void;
	/** Sends if the connection is open; says whether it was. */
	send(data: unknown): boolean;
	/** Sends, or keeps for when the connection is open again; false if it never will be. */
	sendQueued(data: unknown): boolean;
	/** Bytes handed to the socket that the network has not taken. */
	readonly bufferedAmount: number;
	/** Answers the server's questions. The last handler counts; the result removes it. */
	onRequest(handler: RequestHandler): () => void;
	/** Connects again after `close()`, with other options if there are any. */
	connect(options?: ConnectOptions): Connection;
	/** Fulfilled when the connection is open, rejected when it never will be. */
	ready(): Promise<void>;
	stats(): Stats;
	/** Ends the connection for good. The next use of the client makes a new one. */
	close(): void;
}

export interface TopicStore<E> extends Readable<E | null> {
	/** What a reducer makes of all events from now on. */
	scan<A>(initial: A, reducer: (state: A, event: E) => A): Readable<A>;
}
