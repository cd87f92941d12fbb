// Marks of missed events on their way to readers.
import { nextFrame } from './environment.js';
import { MARKS_MAX } from './limits.js';
import type { Envelope, Timers } from './types.js';

/**
 * svelte-realtime applies events once per frame, and loads a stream anew as soon as it sees a mark. The
 * events that it has put off are older than what it loads and must not be applied on top of that. So
 * marks come with the next frame, too: whatever waits for it is applied before the load is answered.
 */
export class Marks {
	readonly #timers: () => Timers;
	readonly #deliver: (mark: Envelope) => void;
	/** By topic: one mark says as much as several. */
	#waiting = new Map<string, Envelope>();
	#callOff: () => void = () => {};

	constructor(timers: () => Timers, deliver: (mark: Envelope) => void) {
		this.#timers = timers;
		this.#deliver = deliver;
	}

	/** Delivers a mark with the next frame; at once where there is none. */
	put(mark: Envelope): void {
		this.#waiting.set(mark.topic, mark);
		if (this.#waiting.size > MARKS_MAX) this.#flush();
		else if (this.#waiting.size === 1) this.#callOff = nextFrame(this.#timers(), () => this.#flush());
	}

	/** Forgets what waits. */
	drop(): void {
		this.#waiting.clear();
		this.#callOff();
		this.#callOff = () => {};
	}

	#flush(): void {
		const marks = [...this.#waiting.values()];
		this.drop();
		for (const mark of marks) this.#deliver(mark);
	}
}
