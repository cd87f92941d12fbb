// Where the checks happen: pages that can be opened, and wires and a server that can be broken.

/** How long the storm blows, and which one: from the environment, so that a failure can be repeated. */
export const settings = (env) => ({
	seconds: Number(env.STORM_SECONDS ?? 4),
	seed: Number(env.STORM_SEED ?? Math.floor(Math.random() * 1_000_000_000))
});

export class World {
	#platform;
	#pages = new Set();
	#count = 0;

	/**
	 * `load`: svelte-realtime and its transport, anew. `address`: options of `connect` for a query.
	 * `order`: asks the test for what a page cannot do.
	 */
	constructor(platform) {
		this.#platform = platform;
		this.settings = platform.settings;
	}

	/** A page that is connected, as a user if `query` names one. */
	async page(query = {}, options = {}) {
		const page = new Page(this.#platform, `p${++this.#count}`, await this.#platform.load());
		this.#pages.add(page);
		page.connect(query, options);
		await page.connection.ready();
		return page;
	}

	/** The server dies without a word, and another takes its place. It remembers nothing. */
	restart() {
		return this.#platform.order({ restart: true });
	}

	closePages() {
		for (const page of this.#pages) page.close();
		this.#pages.clear();
	}
}

class Page {
	#platform;
	#name;

	constructor(platform, name, { rt, transport }) {
		this.#platform = platform;
		this.#name = name;
		this.rt = rt;
		this.transport = transport;
	}

	connect(query, options) {
		const search = new URLSearchParams({ page: this.#name, ...query }).toString();
		const quickly = { reconnectInterval: 20, maxReconnectInterval: 500, storage: null };
		this.connection = this.transport.connect({ ...this.#platform.address(search), ...quickly, ...options });
	}

	/** Calls a function of the server. */
	call(path, ...args) {
		return this.rt.__rpc(path).fresh(...args);
	}

	/** A stream that takes arguments. Their default strategy is the server's to say. */
	stream(path, ...args) {
		return this.rt.__stream(path, { merge: 'crud', key: 'id' }, true)(...args);
	}

	/** Does something to this page's connection: see the relay. */
	wire(act, ...args) {
		return this.#platform.order({ page: this.#name, act, args });
	}

	close() {
		this.connection.close();
	}
}
