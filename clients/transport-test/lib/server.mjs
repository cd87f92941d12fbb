// The server under test: started, published to, killed, restarted on the same port.
import { spawn } from 'node:child_process';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { pause } from './wait.mjs';

const READY_MS = 20_000;
const STOP_MS = 40_000;

export class Server {
	static at(url) {
		const server = new Server();
		server.url = url.replace(/^ws/, 'http').replace(/\/ws$/, '');
		return server;
	}

	static async start(program) {
		const port = await freePort();
		const server = Server.at(`http://127.0.0.1:${port}`);
		server.arguments = ['--listen', `127.0.0.1:${port}`, '--workers', '2'];
		server.program = program;
		await server.restart();
		return server;
	}

	async restart() {
		this.child = spawn(this.program, this.arguments, { stdio: ['ignore', 'pipe', 'inherit'] });
		this.ended = new Promise((done) => this.child.once('exit', (code, signal) => done({ code, signal })));
		const failed = new Promise((_, reject) => {
			this.child.once('error', reject);
			this.ended.then(({ code, signal }) => reject(new Error(`the server ended with ${code ?? signal}`)));
			setTimeout(() => reject(new Error('the server did not say "listening on"')), READY_MS).unref();
		});
		const ready = new Promise((done) => {
			createInterface(this.child.stdout).on('line', (line) => { if (line.includes('listening on')) done(); });
		});
		failed.catch(() => {});
		await Promise.race([ready, failed]);
	}

	/** kill -9: no goodbye, no memory. */
	async kill() {
		this.child.kill('SIGKILL');
		await this.ended;
		this.child = null;
	}

	async stop() {
		if (!this.child) return;
		const child = this.child;
		this.child = null;
		child.kill('SIGTERM');
		const late = pause(STOP_MS).then(() => null);
		const end = await Promise.race([this.ended, late]);
		if (!end) child.kill('SIGKILL');
		if (end?.code !== 0) throw new Error(`the server did not stop well: ${JSON.stringify(end)}`);
	}

	async publish(topic, event, data) {
		const response = await fetch(new URL('/api/publish', this.url), {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify({ topic, event, data })
		});
		const text = await response.text();
		if (!response.ok) throw new Error(`publish answered ${response.status} ${text}`);
		return JSON.parse(text);
	}
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
