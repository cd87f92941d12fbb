// Stores made of a topic's events: lists, maps, counters, single events, topics that depend on a value.
import { isGapMark } from './frames.js';
import { ENTRIES_MAX, LATEST_DEFAULT, TIMER_MAX_MS } from './limits.js';
import { Signal } from './signal.js';
import type { Envelope, Readable, TopicStore, Unsubscribe } from './types.js';

/** How to read a topic: the default client's `on`, or another's. */
export type On = (topic: string) => TopicStore<Envelope<any>>;

export interface EntryOptions {
	/** Field that tells entries apart. Default `id`. */
	key?: string;
	/** Milliseconds after which an entry that was not refreshed goes away. Default: never. */
	maxAge?: number;
	/** Entries at most; the oldest go. Default 100,000. */
	max?: number;
}

export interface CrudOptions extends EntryOptions {
	/** Put new entries first. Default false. */
	prepend?: boolean;
}

/** A topic's store, given a way to read the topic. */
export function topicStore<E>(
	read: (run: (value: E | null) => void) => Unsubscribe
): TopicStore<E> {
	return {
		subscribe: (run) => read(run),
		scan: <A>(initial: A, reducer: (state: A, event: E) => A) =>
			folded<A, E>(
				{ subscribe: (run) => read(run) },
				initial,
				(state, event) => reducer(state, event),
				{ mutable: true }
			).readonly()
	};
}

/**
 * A value into which events are folded while somebody reads it. It is kept while nobody does, and the
 * event that a topic hands to its new readers is not folded a second time.
 */
function folded<A, E>(
	source: Readable<E | null>,
	initial: A,
	fold: (state: A, event: E, late: boolean) => A,
	{ begin, mutable = false }: { begin?: (signal: Signal<A>) => Unsubscribe; mutable?: boolean } = {}
): Signal<A> {
	let last: E | null = null;
	const signal: Signal<A> = new Signal(initial, () => {
		let late = true;
		const leave = source.subscribe((event) => {
			if (event === null || event === last) return;
			last = event;
			const next = fold(signal.value, event, late);
			// A reducer of the application may have changed the state in place.
			if (mutable || next !== signal.value) signal.set(next);
		});
		late = false;
		const end = begin?.(signal);
		return () => {
			end?.();
			leave();
		};
	});
	return signal;
}

/** A list that `created`, `updated`, `deleted` and `refreshed` events keep current. */
export function crud<T = any>(
	on: On,
	topic: string,
	initial: readonly T[] = [],
	options: CrudOptions = {}
): Readable<T[]> {
	const { key = 'id', prepend = false, max = ENTRIES_MAX, maxAge = 0 } = options;
	const keyOf = (item: unknown) => (item as Record<string, unknown> | null)?.[key];
	const ages = new Ages(maxAge);
	const fold = (list: T[], { event, data }: Envelope<any>): T[] => {
		if (event === 'refreshed' && Array.isArray(data)) {
			ages.only(data.map(keyOf));
			return [...data];
		}
		if (typeof data !== 'object' || data === null) return list;
		const id = keyOf(data);
		const at = id === undefined ? -1 : list.findIndex((item) => keyOf(item) === id);
		switch (event) {
			case 'created':
			case 'updated':
				if (at < 0 && event === 'updated') return list;
				ages.refresh(id);
				if (at >= 0) return replaced(list, at, data);
				return prepend ? [data, ...list].slice(0, max) : [...list, data].slice(-max);
			case 'deleted':
				ages.forget(id);
				return at < 0 ? list : replaced(list, at);
			default:
				return list;
		}
	};
	const begin = (signal: Signal<T[]>) => {
		ages.start(signal.value.map(keyOf));
		return ages.sweep((old) => signal.set(signal.value.filter((item) => !old.has(keyOf(item)))));
	};
	return folded(on(topic), [...initial], fold, { begin }).readonly();
}

/** A map from key to entry that the same events keep current. */
export function lookup<T = any>(
	on: On,
	topic: string,
	initial: readonly T[] | Record<string, T> = {},
	options: EntryOptions = {}
): Readable<Record<string, T>> {
	const { key = 'id', max = ENTRIES_MAX, maxAge = 0 } = options;
	const keyOf = (item: unknown) => {
		const id = (item as Record<string, unknown> | null)?.[key];
		return id === undefined || id === null ? undefined : String(id);
	};
	const mapOf = (items: readonly T[]): Record<string, T> =>
		Object.fromEntries(
			items.flatMap((item) => (keyOf(item) === undefined ? [] : [[keyOf(item), item]]))
		);
	const ages = new Ages(maxAge);
	const fold = (map: Record<string, T>, { event, data }: Envelope<any>): Record<string, T> => {
		if (event === 'refreshed' && Array.isArray(data)) {
			const fresh = mapOf(data);
			ages.only(Object.keys(fresh));
			return fresh;
		}
		const id = typeof data === 'object' ? keyOf(data) : undefined;
		if (id === undefined) return map;
		if (event === 'created' || event === 'updated') {
			ages.refresh(id);
			const next = { ...map, [id]: data };
			if (!Object.hasOwn(map, id)) without(next, Object.keys(next).slice(0, -max));
			return next;
		}
		if (event !== 'deleted' || !Object.hasOwn(map, id)) return map;
		ages.forget(id);
		return without({ ...map }, [id]);
	};
	const first = Array.isArray(initial) ? mapOf(initial) : { ...(initial as Record<string, T>) };
	const begin = (signal: Signal<Record<string, T>>) => {
		ages.start(Object.keys(signal.value));
		return ages.sweep((old) => signal.set(without({ ...signal.value }, old as Iterable<string>)));
	};
	return folded(on(topic), first, fold, { begin }).readonly();
}

/** The newest `max` events, oldest first. Marks of missed events are not among them. */
export function latest<T = any>(
	on: On,
	topic: string,
	max: number = LATEST_DEFAULT,
	initial: readonly Envelope<T>[] = []
): Readable<Envelope<T>[]> {
	const fold = (list: Envelope<T>[], event: Envelope<any>) => {
		if (isGapMark(event)) return list;
		return max > 0 ? [...list, event].slice(-max) : [];
	};
	return folded(on(topic), [...initial], fold).readonly();
}

/** A number that `set`, `increment` and `decrement` events change. */
export function count(on: On, topic: string, initial: number = 0): Readable<number> {
	return folded(on(topic), initial, (value, { event, data }: Envelope<any>, late) => {
		if (event === 'set') return typeof data === 'number' ? data : value;
		// A step that others saw before is in `initial` already, or belongs to a value we never had.
		if (late) return value;
		const step = typeof data === 'number' ? data : 1;
		if (event === 'increment') return value + step;
		return event === 'decrement' ? value - step : value;
	}).readonly();
}

export interface OnceOptions {
	/** Milliseconds after which to give up. Default: never. */
	timeout?: number;
}

/** The next event of a topic, or the next one of that name. What came before does not count. */
export function once(
	on: (topic: string, event?: string) => Readable<any>,
	topic: string,
	event?: string | OnceOptions,
	options: OnceOptions = {}
): Promise<any> {
	if (typeof event === 'object') return once(on, topic, undefined, event);
	const { timeout = 0 } = options;
	return new Promise((resolve, reject) => {
		let first = true;
		const leave = on(topic, event).subscribe((value) => {
			if (first || value === null) return;
			finish();
			resolve(value);
		});
		first = false;
		const name = event === undefined ? `once('${topic}')` : `once('${topic}', '${event}')`;
		const expire = () => {
			finish();
			reject(new Error(`${name} timed out after ${timeout}ms`));
		};
		const timer = timeout > 0 ? setTimeout(expire, Math.min(timeout, TIMER_MAX_MS)) : undefined;
		const finish = () => {
			clearTimeout(timer);
			leave();
		};
	});
}

/**
 * The events of a topic whose name depends on a value. Null right after the topic changes, and while
 * there is none: the value, or the name, is null or undefined, or the name is empty.
 */
export function onDerived<V, T = any>(
	on: On,
	topicOf: (value: V) => string | null | undefined,
	source: Readable<V>
): Readable<Envelope<T> | null> {
	const signal: Signal<Envelope<T> | null> = new Signal<Envelope<T> | null>(null, () => {
		let current: string | null = null;
		let leave: Unsubscribe = () => {};
		const stop = source.subscribe((value) => {
			const topic = value === null || value === undefined ? null : topicOf(value) || null;
			if (topic === current) return;
			current = topic;
			leave();
			leave = () => {};
			signal.set(null);
			if (topic !== null) leave = on(topic).subscribe((event) => signal.set(event));
		});
		return () => {
			stop();
			leave();
			signal.set(null);
		};
	});
	return signal.readonly();
}

/** When entries were last refreshed, for those that must not outlive `maxAge`. */
class Ages {
	readonly #maxAge: number;
	/** In order of age, oldest first. Holds the keys of the entries and nothing else. */
	readonly #since = new Map<unknown, number>();

	constructor(maxAge: number) {
		this.#maxAge = maxAge;
	}

	/** Entries without an age begin to age now. */
	start(keys: Iterable<unknown>): void {
		for (const key of keys) if (!this.#since.has(key)) this.refresh(key);
	}

	/** Forgets all others. */
	only(keys: Iterable<unknown>): void {
		this.#since.clear();
		this.start(keys);
	}

	refresh(key: unknown): void {
		if (this.#maxAge <= 0) return;
		this.#since.delete(key);
		this.#since.set(key, Date.now());
	}

	forget(key: unknown): void {
		this.#since.delete(key);
	}

	/** Hands over the keys that are too old, twice per `maxAge` but not more than once a second. */
	sweep(expired: (keys: Set<unknown>) => void): Unsubscribe {
		if (this.#maxAge <= 0) return () => {};
		const timer = setInterval(
			() => {
				const end = Date.now() - this.#maxAge;
				const old = new Set<unknown>();
				for (const [key, since] of this.#since) {
					if (since > end) break;
					old.add(key);
					this.#since.delete(key);
				}
				if (old.size > 0) expired(old);
			},
			Math.min(Math.max(this.#maxAge / 2, SWEEP_MS_MIN), TIMER_MAX_MS)
		);
		return () => clearInterval(timer);
	}
}

const SWEEP_MS_MIN = 1_000;

/** A copy of the list with other items, or none, in one place. */
function replaced<T>(list: readonly T[], at: number, ...items: T[]): T[] {
	const copy = [...list];
	copy.splice(at, 1, ...items);
	return copy;
}

function without<T>(map: Record<string, T>, keys: Iterable<string>): Record<string, T> {
	for (const key of keys) delete map[key];
	return map;
}
