import { TIMER_MAX_MS } from './limits.js';

/** What a close code means for the client: give up, come back much later, or come back. */
export type CloseClass = 'TERMINAL' | 'THROTTLE' | 'RETRY';

export function classifyCloseCode(code: number): CloseClass {
	if (code === 1008 || code === 4401 || code === 4403) return 'TERMINAL';
	return code === 4429 ? 'THROTTLE' : 'RETRY';
}

const GROWTH = 2.2;

/**
 * Milliseconds to wait before attempt number `attempt` (from 0): `base * 2.2^attempt`, at most `max`,
 * give or take a quarter so that the clients of a restarted server do not come back all at once.
 */
export function nextReconnectDelay(
	base: number,
	max: number,
	attempt: number,
	random: () => number = Math.random
): number {
	const capped = Math.min(base * GROWTH ** attempt, max);
	return Math.min(capped * (0.75 + 0.5 * random()), TIMER_MAX_MS);
}
