// The exports of `svelte-adapter-uws/client`: one connection per page, made by its first use.
import { Client } from './client.js';
import * as helpers from './helpers.js';
import type { CrudOptions, EntryOptions, OnceOptions } from './helpers.js';
import type {
	ConnectOptions,
	Connection,
	Denial,
	Envelope,
	Failure,
	Gap,
	Readable,
	RequestHandler,
	Status,
	TopicStore
} from './types.js';

export { classifyCloseCode, nextReconnectDelay, type CloseClass } from './backoff.js';
export { ConnectionClosedError } from './client.js';
export type { CrudOptions, EntryOptions, OnceOptions } from './helpers.js';
export type * from './types.js';

const client = new Client();

/** Connects, or returns the connection there is. Options count for the call that makes it. */
export function connect(options?: ConnectOptions): Connection {
	return client.connect(options);
}

/** A connection of its own, beside the page's: for tests, and for programs that talk to several servers. */
export function createConnection(options: ConnectOptions): Connection {
	return new Client().connect(options);
}

const connecting = <T>(store: Readable<T>): Readable<T> => ({
	subscribe: (run) => {
		client.connect();
		return store.subscribe(run);
	}
});

export const status: Readable<Status> = connecting(client.status);
export const failure: Readable<Failure | null> = connecting(client.failure);
export const denials: Readable<Denial | null> = connecting(client.denials);
export const gaps: Readable<Gap | null> = connecting(client.gaps);

/** The newest event of a topic, or the newest of that name; null before the first. */
export function on<T = any>(topic: string): TopicStore<Envelope<T>>;
export function on<T = any>(topic: string, event: string): TopicStore<{ data: T }>;
export function on(topic: string, event?: string): TopicStore<any> {
	client.connect();
	return event === undefined ? client.on(topic) : client.on(topic, event);
}

/** Answers the server's questions. The last handler counts; the result removes it. */
export function onRequest(handler: RequestHandler): () => void {
	return client.connect().onRequest(handler);
}

/** Fulfilled when the connection is open, rejected when it never will be. At once where there is no page. */
export function ready(): Promise<void> {
	return client.connect().ready();
}

export function crud<T = any>(
	topic: string,
	initial?: readonly T[],
	options?: CrudOptions
): Readable<T[]> {
	return helpers.crud<T>(on, topic, initial, options);
}

export function lookup<T = any>(
	topic: string,
	initial?: readonly T[] | Record<string, T>,
	options?: EntryOptions
): Readable<Record<string, T>> {
	return helpers.lookup<T>(on, topic, initial, options);
}

export function latest<T = any>(
	topic: string,
	max?: number,
	initial?: readonly Envelope<T>[]
): Readable<Envelope<T>[]> {
	return helpers.latest<T>(on, topic, max, initial);
}

export function count(topic: string, initial?: number): Readable<number> {
	return helpers.count(on, topic, initial);
}

export function once<T = any>(topic: string, options?: OnceOptions): Promise<Envelope<T>>;
export function once<T = any>(
	topic: string,
	event: string,
	options?: OnceOptions
): Promise<{ data: T }>;
export function once(
	topic: string,
	event?: string | OnceOptions,
	options?: OnceOptions
): Promise<any> {
	const read = (name: string, of?: string): Readable<any> =>
		of === undefined ? on(name) : on(name, of);
	return helpers.once(read, topic, event, options);
}

export function onDerived<V, T = any>(
	topicOf: (value: V) => string | null | undefined,
	source: Readable<V>
): Readable<Envelope<T> | null> {
	return helpers.onDerived<V, T>(on, topicOf, source);
}
