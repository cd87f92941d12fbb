import { TIMER_MAX_MS } from './limits.js';
import type { Timers } from './types.js';

/** One timer that is either set or not: setting it again replaces what it was set to. */
export class Alarm {
	#handle: unknown = undefined;
	readonly #timers: () => Timers;

	constructor(timers: () => Timers) {
		this.#timers = timers;
	}

	set(ms: number, run: () => void): void {
		this.cancel();
		this.#handle = this.#timers().setTimeout(
			() => {
				this.#handle = undefined;
				run();
			},
			Math.min(ms, TIMER_MAX_MS)
		);
	}

	cancel(): void {
		if (this.#handle === undefined) return;
		this.#timers().clearTimeout(this.#handle);
		this.#handle = undefined;
	}

	/** Lets a program end while it waits, where the timers know how. */
	unref(): void {
		(this.#handle as { unref?: () => void } | undefined)?.unref?.();
	}
}
