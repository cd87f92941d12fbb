// Waiting for things to become true.

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
export const atLeast = (n, limit) => n >= limit;

export function expect(condition, what) {
	if (!condition) throw new Error(`expected: ${what}`);
}

/** Resolves once `test` gives something truthy, rejects after `ms`. */
export async function until(what, test, ms = 5_000) {
	const end = Date.now() + ms;
	for (;;) {
		const value = await test();
		if (value) return value;
		if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
		await pause(20);
	}
}
