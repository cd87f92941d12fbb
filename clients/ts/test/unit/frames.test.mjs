// What waits for the page's next frame: marks of missed events, and coming back. Elsewhere nothing does.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { turn, world } from '../lib/virtual.mjs';

/** A page whose frames are drawn when the test says so. */
function page() {
	let last = 0;
	const asked = new Map();
	globalThis.window = new EventTarget();
	globalThis.document = Object.assign(new EventTarget(), { hidden: false });
	globalThis.requestAnimationFrame = (run) => asked.set(++last, run).size && last;
	globalThis.cancelAnimationFrame = (handle) => void asked.delete(handle);
	return {
		asked,
		frame() {
			const runs = [...asked.values()];
			asked.clear();
			for (const run of runs) run(0);
		},
		show(shown) {
			document.hidden = !shown;
			document.dispatchEvent(new Event('visibilitychange'));
		}
	};
}

afterEach(() => {
	for (const name of ['window', 'document', 'requestAnimationFrame', 'cancelAnimationFrame']) delete globalThis[name];
});

const mark = (topic) => ({ topic, event: 'end', data: { reqId: 0, truncated: true } });
const event = (topic, n) => ({ topic, event: 'said', data: n });
/** What readers of a topic are given, marks by that name. */
const shown = (envelopes) => envelopes.map((e) => e && (e.event === 'end' ? 'mark' : e.data));

test('a mark comes behind what a page has put off to its next frame', async () => {
	const { frame } = page();
	const w = world();
	await w.opened();
	const [applied, gaps] = [[], w.watch(w.connection.gaps)];
	w.connection.on('a').subscribe((e) => {
		if (e?.event === 'end') applied.push('mark');
		else if (e) requestAnimationFrame(() => applied.push(e.data));
	});
	for (const one of [event('a', 1), mark('a'), event('a', 2), mark('a')]) w.socket.receive(one);
	assert.deepEqual(applied, []);
	assert.deepEqual(gaps.at(-1), { topic: 'a', from: 'server' }, 'the store of gaps does not wait');
	frame();
	assert.deepEqual(applied, [1, 'mark', 2], 'once, in the frame in which all that was put off is applied');
	w.socket.receive(mark('a'));
	frame();
	assert.equal(applied.filter((one) => one === 'mark').length, 2, 'the next has its own frame');
});

test('marks of several topics share a frame, and readers that take and leave topics meanwhile are safe', async () => {
	const { asked, frame } = page();
	const w = world();
	await w.opened();
	const all = w.watch(w.connection.events);
	const leave = w.connection.on('a').subscribe(() => {});
	const other = w.watch(w.connection.on('b'));
	for (const topic of ['a', 'b', 'c']) w.socket.receive(mark(topic));
	assert.equal(asked.size, 1);
	leave();
	await turn();
	const late = w.watch(w.connection.on('a'));
	frame();
	assert.deepEqual(all.slice(1).map((e) => e.topic), ['a', 'b', 'c']);
	assert.deepEqual([shown(late), shown(other)], [[null, 'mark'], [null, 'mark']]);
	assert.equal(asked.size, 0);
});

test('a mark whose connection ends before the frame is not delivered', async () => {
	const { asked, frame } = page();
	const w = world();
	await w.opened();
	const seen = w.watch(w.connection.on('a'));
	w.socket.receive(mark('a'));
	w.socket.end();
	assert.equal(asked.size, 0, 'the frame is called off');
	await w.clock.pass(3_000);
	frame();
	await w.opened();
	w.socket.receive(mark('a'));
	w.connection.close();
	assert.deepEqual([asked.size, w.clock.pending], [0, 0], 'the frame is called off');
	w.connection.connect();
	await w.opened();
	frame();
	assert.deepEqual(shown(seen), [null], 'lost, closed');
	w.socket.receive(mark('a'));
	w.socket.end(4401);
	frame();
	assert.deepEqual([shown(seen), asked.size], [[null], 0], 'failed');
});

test('a reader that closes the connection on a mark is the last to hear one', async () => {
	const { frame } = page();
	const w = world();
	await w.opened();
	w.connection.on('a').subscribe((e) => e && w.connection.close());
	const seen = w.watch(w.connection.on('a'));
	w.socket.receive(mark('a'));
	frame();
	assert.deepEqual(shown(seen), [null, 'mark'], 'it has been on its way to all');
	assert.equal(w.connection.stats().topics, 1);
});

test('a hidden page has no frames: marks come at once, also those that wait', async () => {
	const { asked, frame, show } = page();
	const w = world();
	await w.opened();
	const [seen, status] = [w.watch(w.connection.on('a')), w.watch(w.connection.status)];
	w.socket.receive(mark('a'));
	show(false);
	assert.deepEqual([shown(seen), asked.size], [[null, 'mark'], 0]);
	w.socket.receive(mark('a'));
	assert.deepEqual(shown(seen), [null, 'mark', 'mark']);
	show(true);
	assert.equal(status.at(-1), 'suspended', 'what was put off meanwhile is applied first');
	frame();
	assert.equal(status.at(-1), 'open');
	show(false);
	show(true);
	show(false);
	frame();
	assert.equal(status.at(-1), 'suspended', 'hidden again before the frame');
	show(true);
	w.connection.close();
	frame();
	assert.equal(status.at(-1), 'failed', 'closed before the frame');
});

test('marks that wait are bounded: with too many all come at once', async () => {
	const { asked } = page();
	const w = world();
	await w.opened();
	const all = w.watch(w.connection.events);
	for (let i = 0; i < 1_000; i++) w.socket.receive(mark(`t${i}`));
	assert.equal(all.length, 1);
	w.socket.receive(mark('one more'));
	assert.deepEqual([all.length, all.at(-1).topic, asked.size], [1 + 1_001, 'one more', 0]);
});

test('outside of pages a mark is delivered before the next message, as everything is', async () => {
	for (const frames of [undefined, () => assert.fail('there is no page to draw')]) {
		if (frames) globalThis.requestAnimationFrame = frames;
		const w = world();
		await w.opened();
		const seen = w.watch(w.connection.on('a'));
		for (const one of [event('a', 1), mark('a'), event('a', 2)]) w.socket.receive(one);
		assert.deepEqual(shown(seen), [null, 1, 'mark', 2]);
	}
});

test('a new reader is not handed an old mark', async () => {
	const w = world();
	await w.opened();
	w.watch(w.connection.on('a'));
	for (const one of [event('a', 1), mark('a')]) w.socket.receive(one);
	const late = w.watch(w.connection.on('a'));
	w.socket.receive(event('a', 2));
	assert.deepEqual(shown(late), [null, 2]);
	assert.deepEqual(shown(w.watch(w.connection.on('a'))), [2], 'events are');
});

test('a frame goes before each attempt to come back, so that old events are applied before new loads', async () => {
	const { asked, frame, show } = page();
	const w = world();
	await w.opened();
	w.socket.end();
	await w.clock.pass(3_000);
	assert.deepEqual([w.sockets.length, asked.size], [1, 1]);
	frame();
	assert.equal(w.sockets.length, 2);
	w.socket.end();
	window.dispatchEvent(new Event('online'));
	window.dispatchEvent(new Event('online'));
	assert.deepEqual([w.sockets.length, asked.size], [2, 1], 'also when the network is back');
	show(false);
	assert.deepEqual([w.sockets.length, asked.size], [3, 0], 'a page that is hidden meanwhile has no frames');
	w.socket.end();
	show(true);
	assert.deepEqual([w.sockets.length, asked.size], [3, 1], 'and one that is shown again has');
	w.connection.close();
	frame();
	await w.clock.pass(600_000);
	assert.deepEqual([w.sockets.length, asked.size, w.clock.pending], [3, 0, 0], 'closed before the frame');
});

test('a page that is never drawn waits for a second', async () => {
	const { asked } = page();
	const w = world();
	await w.opened();
	const seen = w.watch(w.connection.on('a'));
	w.socket.receive(mark('a'));
	await w.clock.pass(999);
	assert.deepEqual(shown(seen), [null]);
	await w.clock.pass(1);
	assert.deepEqual([shown(seen), asked.size], [[null, 'mark'], 0]);
	w.socket.end();
	await w.clock.pass(3_999);
	assert.equal(w.sockets.length, 1);
	await w.clock.pass(1);
	assert.equal(w.sockets.length, 2);
});
