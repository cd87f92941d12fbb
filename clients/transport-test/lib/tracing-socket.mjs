// The WebSocket class that clients under test get: an ordinary one that behaves like a browser's
// and remembers what went over it.
import WebSocket from 'ws';

export class TracingSocket extends WebSocket {
	static sockets = [];

	constructor(url, protocols) {
		// A browser always sends the page's origin.
		super(url, protocols ?? [], { origin: new URL(url).origin.replace(/^ws/, 'http'), perMessageDeflate: true });
		this.frames = { sent: [], received: [] };
		TracingSocket.sockets.push(this);
		this.on('message', (data, isBinary) => {
			if (!isBinary) this.frames.received.push(...flatten(JSON.parse(data.toString())));
		});
		this.on('close', (code) => { this.closeCode = code; });
		this.on('error', () => {});
	}

	send(data, ...rest) {
		if (typeof data === 'string') this.frames.sent.push(JSON.parse(data));
		super.send(data, ...rest);
	}
}

const flatten = (frame) => (frame.type === 'batch' && Array.isArray(frame.events) ? frame.events : [frame]);

/** What a test looks at, whatever the client. */
export const trace = {
	sent: () => TracingSocket.sockets.flatMap((s) => s.frames.sent),
	received: () => TracingSocket.sockets.flatMap((s) => s.frames.received),
	closes: () => TracingSocket.sockets.map((s) => s.closeCode).filter((code) => code !== undefined),
	/** Ends the TCP connection under the client, without a close frame. */
	cut: () => TracingSocket.sockets.at(-1)._socket.destroy(),
	describe: () =>
		TracingSocket.sockets
			.map((s, i) => `connection ${i + 1} (closed with ${s.closeCode ?? 'nothing yet'})\n${lines('>', s.frames.sent)}${lines('<', s.frames.received)}`)
			.join('')
};

const lines = (mark, frames) => frames.map((f) => `  ${mark} ${JSON.stringify(f).slice(0, 200)}\n`).join('');
