// One address for a page and its server: files, orders of the page to the test, and a relay of the
// page's WebSockets to a server on another port. Connections can be cut, stalled, delayed and torn,
// each page's on its own: a page says `?page=NAME` when it connects.
import http from 'node:http';
import net from 'node:net';

const sleep = (ms) => new Promise((done) => setTimeout(done, ms).unref());

export class Site {
	#files;
	#order;
	#serverPort;
	#http;
	#wires = new Map();
	#manners = new Map();
	#addresses = 0;

	/** `files`: path -> [type, content]. `order`: answers what a page posts to `/order`. */
	static async open({ serverPort, files = {}, order = async () => null }) {
		const site = new Site();
		site.#serverPort = serverPort;
		site.#files = files;
		site.#order = order;
		site.#http = http.createServer((request, response) => void site.#answer(request, response));
		site.#http.on('upgrade', (request, socket, head) => site.#relay(request, socket, head));
		await new Promise((done) => site.#http.listen(0, '127.0.0.1', done));
		site.host = `127.0.0.1:${site.#http.address().port}`;
		return site;
	}

	/** Does something to all connections of a page, and to those that it makes later. */
	act(page, name, ...args) {
		const manner = this.#manner(page);
		const wires = [...(this.#wires.get(page) ?? [])];
		switch (name) {
			case 'cut':
				return wires.forEach((wire) => wire.cut());
			case 'forget':
				return wires.forEach((wire) => wire.part(wire.near, wire.far, args[0]));
			case 'vanish':
				return wires.forEach((wire) => wire.part(wire.far, wire.near, args[0]));
			case 'stall':
				manner.stalled = sleep(args[0]);
				return;
			case 'delay':
				manner.delay = args[0];
				return;
			case 'tear':
				return wires.forEach((wire) => (wire.left = args[0]));
			case 'refuse':
				manner.refuseUntil = Date.now() + args[0];
				return;
			default:
				throw new Error(`nobody can ${name} a connection`);
		}
	}

	close() {
		for (const wires of this.#wires.values()) wires.forEach((wire) => wire.cut());
		this.#http.close();
		this.#http.closeAllConnections();
	}

	#manner(page) {
		if (!this.#manners.has(page)) this.#manners.set(page, { stalled: null, delay: 0, refuseUntil: 0 });
		return this.#manners.get(page);
	}

	async #answer(request, response) {
		const path = new URL(request.url, 'http://site').pathname;
		try {
			if (path === '/order') {
				const body = Buffer.concat(await request.toArray()).toString();
				const answer = await this.#order(JSON.parse(body));
				response.setHeader('content-type', 'application/json');
				return response.end(JSON.stringify(answer ?? null));
			}
		} catch (error) {
			response.statusCode = 500;
			return response.end(String(error?.stack ?? error));
		}
		const [type, content] = this.#files[path] ?? [];
		if (!type) response.statusCode = 404;
		else response.setHeader('content-type', type);
		response.end(content);
	}

	#relay(request, near, head) {
		near.on('error', () => {});
		const page = new URL(request.url, 'http://site').searchParams.get('page') ?? '';
		const manner = this.#manner(page);
		if (Date.now() < manner.refuseUntil) return near.destroy();
		const far = net.connect(this.#serverPort, '127.0.0.1');
		far.on('error', () => {});
		const wire = new Wire(near, far, manner);
		const wires = this.#wires.get(page) ?? this.#wires.set(page, new Set()).get(page);
		wires.add(wire);
		near.once('close', () => far.destroyed && wires.delete(wire));
		far.once('close', () => near.destroyed && wires.delete(wire));
		// The server counts connections per address: every one gets its own.
		const n = ++this.#addresses;
		const address = `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
		const lines = [`${request.method} ${request.url} HTTP/1.1`, `x-forwarded-for: ${address}`];
		for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
		far.write(`${lines.join('\r\n')}\r\n\r\n`);
		if (head.length > 0) far.write(head);
		wire.run();
	}
}

/** The two sockets of one connection. `near` is the page's, `far` the server's. */
class Wire {
	/** Bytes that still go to the page before the connection is torn. */
	left = Infinity;
	#silent = false;

	constructor(near, far, manner) {
		this.near = near;
		this.far = far;
		this.manner = manner;
	}

	run() {
		void this.#pump(this.near, this.far, false);
		void this.#pump(this.far, this.near, true);
	}

	cut() {
		this.near.destroy();
		this.far.destroy();
	}

	/** One side notices the loss now, the other later, and hears nothing until then. */
	part(now, later, ms) {
		this.#silent = true;
		now.destroy();
		setTimeout(() => later.destroy(), ms).unref();
	}

	async #pump(from, to, toPage) {
		try {
			for await (const chunk of from) {
				if (this.manner.stalled) await this.manner.stalled;
				if (this.manner.delay > 0) await sleep(this.manner.delay);
				if (toPage && chunk.length >= this.left) {
					to.write(chunk.subarray(0, this.left), () => this.cut());
					return;
				}
				if (toPage) this.left -= chunk.length;
				if (!to.destroyed && !to.write(chunk)) await new Promise((done) => to.once('drain', done).once('close', done));
			}
			if (!this.#silent) to.end();
		} catch {
			if (!this.#silent) to.destroy();
		}
	}
}
