// Our own small client. It sends what the published client sends, in the same order: hello, resume
// if it saw numbers, subscribe-batch, all in one burst on open.
import { TracingSocket, trace } from './tracing-socket.mjs';

const RECONNECT_MS = 400;

export function connectFrames(serverUrl) {
	console.log('client: the frames of svelte-adapter-uws 0.5.1, sent by our own code');
	const url = new URL('/ws', serverUrl.replace(/^http/, 'ws')).href;
	const topics = new Set();
	const events = [];
	const numbers = {};
	let session = null;
	let socket;
	let reference = 1;
	let closed = false;

	const send = (frame) => socket.send(JSON.stringify(frame));
	const opened = () => {
		send({ type: 'hello', caps: ['batch'] });
		if (session && Object.keys(numbers).length) send({ type: 'resume', sessionId: session, lastSeenSeqs: numbers });
		if (topics.size) send({ type: 'subscribe-batch', topics: [...topics], ref: reference++ });
	};
	const receive = (frame) => {
		if (frame.topic && frame.event !== undefined) {
			if (typeof frame.seq === 'number') numbers[frame.topic] = Math.max(numbers[frame.topic] ?? 0, frame.seq);
			events.push(frame);
		} else if (frame.type === 'batch') frame.events.forEach(receive);
		else if (frame.type === 'welcome') session = frame.sessionId;
	};
	const connect = () => {
		socket = new TracingSocket(url);
		socket.onopen = opened;
		socket.onmessage = ({ data }) => receive(JSON.parse(data));
		socket.onclose = () => { if (!closed) setTimeout(connect, RECONNECT_MS); };
	};
	connect();
	return {
		...trace,
		subscribe(topic) {
			topics.add(topic);
			if (socket.readyState === TracingSocket.OPEN) send({ type: 'subscribe', topic, ref: reference++ });
		},
		events: (topic) => events.filter((e) => e.topic === topic),
		close() {
			closed = true;
			socket.close();
		}
	};
}
