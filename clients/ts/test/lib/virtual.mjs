// A connection in a world of its own: sockets that do what the test says, and time that stands still.
import { createConnection } from '../../dist/index.js';

/** Timers that run when the test lets time pass. */
export class Clock {
	time = 1_000_000;
	#timers = new Map();
	#last = 0;

	now = () => this.time;
	setTimeout = (run, ms) => {
		this.#timers.set(++this.#last, { at: this.time + ms, run });
		return this.#last;
	};
	clearTimeout = (handle) => this.#timers.delete(handle);

	setInterval = (run, ms) => {
		const handle = this.setTimeout(() => {
			this.#timers.set(handle, { at: this.time + ms, run: again });
			run();
		}, ms);
		const again = this.#timers.get(handle).run;
		return handle;
	};
	clearInterval = this.clearTimeout;

	/** How many timers are set. */
	get pending() {
		return this.#timers.size;
	}

	/** Milliseconds until the next timer is due. */
	get next() {
		return Math.min(...[...this.#timers.values()].map((t) => t.at)) - this.time;
	}

	async pass(ms) {
		const end = this.time + ms;
		for (;;) {
			const due = [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
			if (!due) break;
			this.#timers.delete(due[0]);
			this.time = Math.max(this.time, due[1].at);
			due[1].run();
			await turn();
		}
		this.time = end;
	}
}

/** Lets everything run that was put off to the end of the turn. */
export const turn = () => new Promise((done) => setImmediate(done));

/** A world with one connection that is being made. */
export function world(options = {}) {
	const sockets = [];
	class FakeSocket {
		readyState = 0;
		bufferedAmount = 0;
		sent = [];
		listeners = {};

		constructor(url) {
			this.url = url;
			sockets.push(this);
		}
		on(name, run) {
			this.listeners[name] = run;
		}
		send(data) {
			if (this.readyState !== 1) throw new Error('not open');
			this.sent.push(data);
		}
		close() {
			this.closed = true;
			this.readyState = 2;
		}
		open() {
			this.readyState = 1;
			this.onopen?.({});
		}
		/** A message from the server: text as it is, anything else as JSON. */
		receive(data) {
			const raw = typeof data === 'string' || data instanceof ArrayBuffer;
			this.onmessage?.({ data: raw ? data : JSON.stringify(data) });
		}
		/** The end of the connection. */
		end(code = 1006, reason = '') {
			this.readyState = 3;
			this.onclose?.({ code, reason });
		}
		/** What was sent since the last look, as values. */
		take() {
			return this.sent.splice(0).map((d) => (typeof d === 'string' ? JSON.parse(d) : d));
		}
	}
	const clock = new Clock();
	const connection = createConnection({
		url: 'ws://server.test/ws',
		WebSocket: FakeSocket,
		timers: clock,
		now: clock.now,
		random: () => 0.5,
		storage: null,
		...options
	});
	return {
		clock,
		sockets,
		connection,
		/** The newest socket. */
		get socket() {
			return sockets.at(-1);
		},
		/** Opens the newest socket and drops the frames of the greeting. */
		async opened() {
			sockets.at(-1).open();
			await turn();
			sockets.at(-1).take();
			return sockets.at(-1);
		},
		/** All values a store shows from now on. */
		watch(store) {
			const values = [];
			store.subscribe((value) => values.push(value));
			return values;
		}
	};
}

/** Runs something with the console's warnings kept for the test. */
export async function warnings(run) {
	const kept = [];
	const before = [console.warn, console.error];
	console.warn = console.error = (...args) => kept.push(args.map(String).join(' '));
	try {
		await run();
	} finally {
		[console.warn, console.error] = before;
	}
	return kept;
}
