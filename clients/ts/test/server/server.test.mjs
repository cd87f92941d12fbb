// Against a running `millstream`, over real sockets. MILLSTREAM_BIN names the binary.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createConnection } from '../../dist/index.js';
import '../../dist/node.js';
import { Server, relay, until } from '../lib/server.mjs';

const server = await Server.start('--open-topics', 'open:*');
const connections = [];
after(async () => {
	connections.forEach((c) => c.close());
	await server.stop();
});

/** A connection that comes back quickly, and what a topic's reader saw. */
function connect(options) {
	const connection = createConnection({ url: server.url, reconnectInterval: 50, ...options });
	connections.push(connection);
	return connection;
}
function read(connection, topic) {
	const seen = [];
	const leave = connection.on(topic).subscribe((e) => e && seen.push(e));
	return { seen, leave, datas: () => seen.filter((e) => e.event === 'made').map((e) => e.data) };
}
function watch(store) {
	const values = [];
	store.subscribe((value) => values.push(value));
	return values;
}
const acknowledged = (connection, n) =>
	until(`${n} topics are acknowledged`, () => connection.stats().acknowledged === n);

test('receives what is published, in order, while it is subscribed', async () => {
	const connection = connect();
	await connection.ready();
	const reader = read(connection, 'open:a');
	await acknowledged(connection, 1);
	for (const n of [1, 2, 3]) await server.publish('open:a', 'made', n);
	await until('three events came', () => reader.datas().length === 3);
	assert.deepEqual(reader.datas(), [1, 2, 3]);
	reader.leave();
	await until('nobody is subscribed', async () => !(await server.publish('open:a', 'made', 4)).delivered);
	assert.equal(connection.stats().ignored, 0, 'no frame was strange');
	connection.close();
});

test('six hundred topics, in frames that the server takes', async () => {
	const connection = connect();
	const readers = Array.from({ length: 600 }, (_, i) => read(connection, `open:many:${i}:${'x'.repeat(i % 200)}`));
	await connection.ready();
	await acknowledged(connection, 600);
	await server.publish(`open:many:599:${'x'.repeat(199)}`, 'made', 'last');
	await until('the last topic delivers', () => readers[599].datas().length === 1);
	connection.close();
});

test('a topic that may not be read is denied, and stays so', async () => {
	const connection = connect();
	const denials = watch(connection.denials);
	await connection.ready();
	read(connection, 'secret');
	await until('the denial came', () => denials.length === 2);
	assert.equal(denials[1].topic, 'secret');
	assert.equal(typeof denials[1].ref, 'number');
	assert.match(denials[1].reason, /^[A-Z_]+$/);
	assert.equal(connection.stats().acknowledged, 0);
	connection.close();
});

test('after a cut it resumes; what was missed is said, what was not is not', async () => {
	const wire = await relay(server.port);
	const connection = connect({ url: `ws://127.0.0.1:${wire.port}/ws`, reconnectInterval: 200, WebSocket: await sameOrigin() });
	const reader = read(connection, 'open:b');
	const gaps = watch(connection.gaps);
	await acknowledged(connection, 1);
	await server.publish('open:b', 'made', 1);
	await until('the first event came', () => reader.datas().length === 1);

	wire.cut();
	await until('it came back', () => connection.stats().opened === 2 && connection.stats().acknowledged === 1);
	await server.publish('open:b', 'made', 2);
	await until('the second event came', () => reader.datas().length === 2);
	assert.deepEqual(gaps, [null]);

	wire.cut();
	await until('the server noticed', async () => !(await server.publish('open:b', 'made', 'missed')).delivered);
	await until('the gap was said', () => gaps.length === 2);
	assert.deepEqual(gaps[1], { topic: 'open:b', from: 'server' });
	await server.publish('open:b', 'made', 3);
	await until('the third event came', () => reader.datas().at(-1) === 3);
	connection.close();
	wire.close();
});

test('kill -9: comes back to the new server, and says what may be missing', async () => {
	const connection = connect();
	const status = watch(connection.status);
	const gaps = watch(connection.gaps);
	const reader = read(connection, 'open:c');
	await acknowledged(connection, 1);
	await server.publish('open:c', 'made', 1);
	await until('the first event came', () => reader.datas().length === 1);
	await server.kill();
	await until('the loss was noticed', () => status.includes('disconnected'));
	assert.equal(connection.sendQueued({ kept: true }), true);
	assert.equal(connection.stats().queued, 1);
	await server.restart();
	await until('it came back', () => connection.stats().opened === 2 && connection.stats().acknowledged === 1);
	assert.equal(connection.stats().queued, 0);
	await until('the gap was said', () => gaps.length === 2);
	await server.publish('open:c', 'made', 2);
	await until('the next event came', () => reader.datas().at(-1) === 2);
	connection.close();
});

test('a message longer than the server takes costs the connection, not the client', async () => {
	const connection = connect();
	const failure = watch(connection.failure);
	await connection.ready();
	connection.send('x'.repeat(20_000));
	await until('the server hung up', () => failure.some((f) => f?.code === 1009));
	await until('it came back', () => connection.stats().opened === 2);
	connection.close();
});

test('a server that stops says 1001, and the client waits for the next', async () => {
	const connection = connect();
	const failure = watch(connection.failure);
	const status = watch(connection.status);
	await connection.ready();
	assert.equal(await server.stop(), 0);
	await until('the goodbye came', () => failure.some((f) => f?.code === 1001));
	assert.equal(failure.find((f) => f?.code === 1001).class, 'RETRY');
	await server.restart();
	await until('it came back', () => connection.stats().opened === 2);
	assert.equal(status.at(-1), 'open');
	connection.close();
});

/** Through the relay the address is another, but the origin has to be the server's or none at all. */
async function sameOrigin() {
	const { WebSocket } = await import('ws');
	return class extends WebSocket {
		constructor(url) {
			super(url, [], { origin: url.replace(/^ws(.*)\/ws$/, 'http$1') });
		}
	};
}
