#!/usr/bin/env node
// A client's whole life against a running server: connect, subscribe, receive, lose the connection,
// resume, receive again; then the server is killed and comes back with an empty memory.
import { parseArgs } from 'node:util';
import { connectFrames } from './lib/frames-client.mjs';
import { connectPublished } from './lib/published-client.mjs';
import { Server } from './lib/server.mjs';
import { atLeast, expect, pause, until } from './lib/wait.mjs';

const HELP = `usage: test.mjs (--server PROGRAM | --url http://host:port) [--client frames|FOLDER]
  --server PROGRAM   start it on a free port, kill and restart it on the way, stop it at the end
  --url URL          a server that runs already; the scenario with the restart is left out
  --client frames    our own client, which sends the frames the published one sends (default)
  --client FOLDER    an unpacked svelte-adapter-uws 0.5.x, used as it is`;

const { values: options } = parseArgs({
	options: {
		server: { type: 'string' },
		url: { type: 'string' },
		client: { type: 'string', default: 'frames' },
		help: { type: 'boolean', short: 'h', default: false }
	}
});
if (options.help || !options.server === !options.url) {
	console.error(HELP);
	process.exit(options.help ? 0 : 2);
}

const server = options.server ? await Server.start(options.server) : Server.at(options.url);
const client = options.client === 'frames' ? connectFrames(server.url) : await connectPublished(options.client, server.url);
const topic = `transport-test:${process.pid}`;
const datas = () => client.events(topic).filter((e) => e.event === 'made').map((e) => e.data);
const gaps = () => client.events(topic).filter((e) => e.event === 'end' && e.data?.truncated === true && e.data.reqId === 0);
const numbers = () => client.received().filter((f) => f.topic === topic && 'seq' in f).map((f) => f.seq);
const sent = (type) => client.sent().filter((f) => f.type === type);

const scenarios = {
	'connects and greets in order': async () => {
		client.subscribe(topic);
		await until('the subscription is acknowledged', () => client.received().find((f) => f.type === 'subscribed' && f.topic === topic));
		expect(client.received()[0].type === 'welcome', 'welcome is the first frame');
		expect(client.sent()[0].type === 'hello', 'hello is the first frame of the client');
	},
	'receives what is published over HTTP': async () => {
		for (const n of [1, 2, 3]) await server.publish(topic, 'made', n);
		await until('three events', () => datas().length === 3);
		expect(datas().join() === '1,2,3', 'in the order of publishing');
		const [a, b, c] = numbers();
		expect(b === a + 1 && c === b + 1, 'numbers rise by one');
		expect(c < 2 ** 53, 'numbers are exact in JavaScript');
	},
	'resumes after a cut without a needless reload': async () => {
		await reconnect(() => client.cut());
		const resume = sent('resume').at(-1);
		expect(resume?.lastSeenSeqs[topic] === numbers().at(-1), 'the client says what it saw last');
		await until('resumed', () => client.received().some((f) => f.type === 'resumed'));
		await server.publish(topic, 'made', 4);
		await until('the next event', () => datas().at(-1) === 4);
		expect(numbers().at(-1) === numbers().at(-2) + 1, 'numbering went on');
		expect(gaps().length === 0, 'nothing was missed, so nothing is to be reloaded');
	},
	'is told to reload what it missed': async () => {
		await reconnect(async () => {
			client.cut();
			await until('the server noticed', async () => !(await server.publish(topic, 'made', 5)).delivered);
		});
		await until('a gap mark', () => gaps().length === 1);
		await server.publish(topic, 'made', 6);
		await until('the next event', () => datas().at(-1) === 6);
	}
};
if (options.server) {
	scenarios['is told to reload after kill -9 and restart'] = async () => {
		const before = numbers().at(-1);
		const had = gaps().length;
		await reconnect(async () => {
			await server.kill();
			await pause(300);
			await server.restart();
		});
		await until('a gap mark', () => gaps().length === had + 1);
		await server.publish(topic, 'made', 7);
		await until('the next event', () => datas().at(-1) === 7);
		expect(numbers().at(-1) > before, 'numbers never go back, not even across a restart');
	};
	scenarios['a stopping server says goodbye'] = async () => {
		await server.stop();
		await until('the close frame', () => client.closes().at(-1) === 1001);
	};
}

/** Does something that ends the connection and waits until the client is subscribed again. */
async function reconnect(cause) {
	const acks = () => client.received().filter((f) => f.type === 'subscribed' && f.topic === topic).length;
	const before = acks();
	await cause();
	await until('the client is subscribed again', () => atLeast(acks(), before + 1), 15_000);
}

let passed = 0;
let failed = 0;
for (const [name, run] of Object.entries(scenarios)) {
	const started = Date.now();
	try {
		await run();
		passed++;
		console.log(`PASS ${name} (${Date.now() - started} ms)`);
	} catch (error) {
		failed++;
		console.log(`FAIL ${name}: ${error.message}`);
		console.log(client.describe());
		break; // Each scenario goes on where the last one ended.
	}
}
client.close();
await server.stop();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
