// The entry for programs without a browser, over real sockets.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, test } from 'node:test';
import { WebSocketServer } from 'ws';
import { createConnection } from '../../dist/index.js';
import '../../dist/node.js';

const upgrades = [];
const asked = [];
const server = http.createServer((request, response) => {
	asked.push(request.headers);
	const gone = asked.length > 1 ? ['sid=; Max-Age=0; Path=/'] : ['sid=abc%20d; HttpOnly; Path=/', 'theme=dark'];
	response.writeHead(204, { 'set-cookie': gone }).end();
});
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket, request) => upgrades.push({ socket, headers: request.headers }));
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const host = `127.0.0.1:${server.address().port}`;
after(() => {
	for (const socket of sockets.clients) socket.terminate();
	server.close();
	server.closeAllConnections();
});

test('names the server as its origin, and carries the cookies of the preflight', async () => {
	const connection = createConnection({ url: `ws://${host}/ws`, auth: true, reconnectInterval: 10 });
	await connection.ready();
	assert.equal(upgrades[0].headers.origin, `http://${host}`);
	assert.equal(upgrades[0].headers.cookie, 'sid=abc%20d; theme=dark');
	assert.equal(asked[0]['x-requested-with'], 'XMLHttpRequest');
	upgrades[0].socket.terminate();
	while (upgrades.length < 2) await new Promise((done) => setTimeout(done, 5));
	assert.equal(asked[1].cookie, 'sid=abc%20d; theme=dark', 'the next preflight has them too');
	assert.equal(upgrades[1].headers.cookie, 'theme=dark', 'a cookie that was taken away is gone');
	connection.close();
});

test('a ping of the server is a sign of life', async () => {
	const connection = createConnection({ url: `ws://${host}/ws` });
	await connection.ready();
	const before = connection.stats().lastMessageAt;
	await new Promise((done) => setTimeout(done, 5));
	upgrades.at(-1).socket.ping();
	while (connection.stats().lastMessageAt === before) await new Promise((done) => setTimeout(done, 5));
	assert.equal(connection.stats().received, 0);
	connection.close();
});

test('closing while the handshake is under way throws at nobody', async () => {
	const connection = createConnection({ url: `ws://${host}/ws` });
	connection.close();
	await new Promise((done) => setTimeout(done, 50));
});
