import type { Readable, Unsubscribe } from './types.js';

/**
 * A value with readers, under the contract of Svelte's stores.
 *
 * All readers of a change are served before those of a change that one of them causes, so everybody
 * sees the same order. A reader that throws is reported and hurts nobody else.
 */
export class Signal<T> implements Readable<T> {
	#value: T;
	#readers = new Set<Reader<T>>();
	readonly #start: (() => Unsubscribe | void) | undefined;
	#stop: Unsubscribe | void = undefined;

	/** `start` runs before the first reader is served; what it returns, after the last has left. */
	constructor(value: T, start?: () => Unsubscribe | void) {
		this.#value = value;
		this.#start = start;
	}

	get value(): T {
		return this.#value;
	}

	get readers(): number {
		return this.#readers.size;
	}

	/** Readers hear of it unless it is the primitive they know. */
	set(value: T): void {
		if (Object.is(value, this.#value) && !isObject(value)) return;
		this.#value = value;
		for (const reader of this.#readers) waiting.push(() => reader.serve(value));
		drain();
	}

	readonly subscribe = (run: (value: T) => void): Unsubscribe => {
		const reader = new Reader(run);
		if (this.#readers.size === 0) this.#stop = this.#start?.();
		this.#readers.add(reader);
		run(this.#value);
		return () => {
			if (!this.#readers.delete(reader)) return;
			reader.left = true;
			if (this.#readers.size > 0) return;
			const stop = this.#stop;
			this.#stop = undefined;
			stop?.();
		};
	};

	/** The store alone, without the power to set it. */
	readonly(): Readable<T> {
		return { subscribe: this.subscribe };
	}
}

class Reader<T> {
	left = false;
	readonly #run: (value: T) => void;

	constructor(run: (value: T) => void) {
		this.#run = run;
	}

	serve(value: T): void {
		if (!this.left) guarded(() => this.#run(value));
	}
}

/** Runs somebody else's code; what it throws goes to the console and nowhere else. */
export function guarded(run: () => void, what = 'a reader failed'): void {
	try {
		run();
	} catch (error) {
		console.error(`[millstream] ${what}:`, error);
	}
}

const isObject = (value: unknown): boolean =>
	(typeof value === 'object' && value !== null) || typeof value === 'function';

// Bounded by the readers of the changes under way: it is empty whenever `drain` returns.
let waiting: Array<() => void> = [];
let draining = false;

function drain(): void {
	if (draining) return;
	draining = true;
	for (let i = 0; i < waiting.length; i++) waiting[i]!();
	waiting = [];
	draining = false;
}
