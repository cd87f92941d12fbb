// What the checks share. They run in Node and in a page, so nothing of either is used here.

/** How long something may take that is going to happen: long, because machines are busy. */
export const LIMIT_MS = 40_000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until something is so. A condition that throws is not so yet. */
export async function until(what, condition, ms = LIMIT_MS) {
	const end = Date.now() + ms;
	let last;
	for (;;) {
		try {
			if (await condition()) return;
			last = undefined;
		} catch (error) {
			last = error;
		}
		if (Date.now() > end) throw new Error(`waited in vain until ${what}${last ? `: ${last.message}` : ''}`);
		await sleep(5);
	}
}

/** Compares JSON values; the order of members does not matter. */
export function equal(got, want, what) {
	if (text(got) !== text(want)) throw new Error(`${what}: got ${text(got)}, wanted ${text(want)}`);
}

/** Waits until a value is another. */
export async function becomes(what, read, want) {
	await until(what, async () => {
		equal(await read(), want, 'now');
		return true;
	});
}

/** The code, and whatever else is asked for, of the error with which a promise fails. */
export async function fails(promise, want, what) {
	let value;
	try {
		value = await promise;
	} catch (error) {
		const got = Object.fromEntries(Object.keys(want).map((name) => [name, error[name]]));
		return equal(got, want, what ?? `the error ${error.code} "${error.message}"`);
	}
	throw new Error(`${what ?? 'the call'} should have failed with ${text(want)}, gave ${text(value)}`);
}

/** Follows a store. */
export function watch(store) {
	const seen = { values: [], last: undefined, stop: () => {} };
	seen.stop = store.subscribe((value) => {
		seen.last = value;
		seen.values.push(snapshot(value));
	});
	return seen;
}

/** Follows a stream: its value, its error, its status. */
export function follow(stream) {
	const seen = watch(stream);
	const [error, status] = [watch(stream.error), watch(stream.status)];
	const stop = seen.stop;
	return Object.defineProperties(seen, {
		error: { get: () => error.last },
		errors: { get: () => error.values },
		status: { get: () => status.last },
		statuses: { get: () => status.values },
		stop: { value: () => [stop, error.stop, status.stop].forEach((run) => run()) }
	});
}

/** Numbers from 0 to 1 that a seed decides: mulberry32. */
export function generator(seed) {
	let state = seed >>> 0;
	const next = () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let t = state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
	};
	const below = (n) => Math.floor(next() * n);
	return { next, below, between: (low, high) => low + below(high - low + 1), pick: (list) => list[below(list.length)] };
}

let spaces = 0;
/** A name that nobody has used before, in this run or an earlier one against the same server. */
export const freshSpace = (name) => `${name}-${Date.now().toString(36)}-${(++spaces).toString(36)}`;

const snapshot = (value) => (value === undefined || value instanceof Error ? value : structuredClone(value));

/** JSON with sorted members; undefined is told from null. */
function text(value) {
	if (value === undefined) return 'undefined';
	return JSON.stringify(value, (_, inner) =>
		inner && typeof inner === 'object' && !Array.isArray(inner)
			? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
			: inner
	);
}
