// The `millstream` binary named by MILLSTREAM_BIN: started, published to, killed, restarted, stopped.
import { spawn } from 'node:child_process';
import net from 'node:net';
import { createInterface } from 'node:readline';

const READY_MS = 20_000;

export class Server {
	#child = null;
	#ended;

	static async start(...options) {
		return Server.named('MILLSTREAM_BIN', options);
	}

	/** The same with the binary that an environment variable names. */
	static async named(variable, options = []) {
		const program = process.env[variable];
		if (!program) throw new Error(`${variable} has to name a binary`);
		const server = new Server();
		server.program = program;
		server.port = await freePort();
		server.options = ['--listen', `127.0.0.1:${server.port}`, '--workers', process.env.SERVER_WORKERS ?? '2', ...options];
		server.url = `ws://127.0.0.1:${server.port}/ws`;
		await server.restart();
		return server;
	}

	async restart() {
		const child = spawn(this.program, this.options, { stdio: ['ignore', 'pipe', 'ignore'] });
		this.#child = child;
		this.#ended = new Promise((done) => child.once('exit', (code) => done(code)));
		await new Promise((done, reject) => {
			const late = setTimeout(() => reject(new Error('the server did not get ready')), READY_MS);
			child.once('error', reject);
			this.#ended.then((code) => reject(new Error(`the server ended with ${code}`)));
			createInterface(child.stdout).on('line', (line) => {
				if (!line.includes('listening on')) return;
				clearTimeout(late);
				done();
			});
		});
	}

	/** kill -9: no goodbye, no memory. */
	async kill() {
		this.#child.kill('SIGKILL');
		await this.#ended;
	}

	/** SIGTERM. Returns how the server ended. */
	async stop() {
		this.#child.kill('SIGTERM');
		return this.#ended;
	}

	async publish(topic, event, data) {
		const response = await fetch(`http://127.0.0.1:${this.port}/api/publish`, {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify({ topic, event, data })
		});
		if (!response.ok) throw new Error(`publish answered ${response.status}`);
		return response.json();
	}
}

/** Waits until something is so. */
export async function until(what, condition, ms = 10_000) {
	const end = Date.now() + ms;
	while (!(await condition())) {
		if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
		await new Promise((done) => setTimeout(done, 10));
	}
}

/** A server, and a relay in front of it whose connections can be cut. */
export async function relay(port) {
	const pipes = new Set();
	const server = net.createServer((near) => {
		const far = net.connect(port, '127.0.0.1');
		for (const [a, b] of [[near, far], [far, near]]) {
			pipes.add(a);
			a.on('error', () => {}).on('close', () => (pipes.delete(a), b.destroy()));
			a.pipe(b);
		}
	});
	await new Promise((done) => server.listen(0, '127.0.0.1', done));
	return {
		port: server.address().port,
		cut: () => pipes.forEach((socket) => socket.destroy()),
		close: () => {
			server.close();
			pipes.forEach((socket) => socket.destroy());
		}
	};
}

function freePort() {
	return new Promise((done, reject) => {
		const probe = net.createServer().once('error', reject);
		probe.listen(0, '127.0.0.1', () => {
			const { port } = probe.address();
			probe.close(() => done(port));
		});
	});
}
