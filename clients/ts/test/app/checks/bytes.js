import { becomes, equal, fails, freshSpace, sleep, until } from './kit.js';

const check = (name, run) => ({ name: `bytes: ${name}`, run });

/** So much goes out before its source ends: more than two of the largest frames, one of which is kept. */
const BEGUN = 140_000;

/** Bytes, and what the application reckons of them. */
function bytes(count) {
	const data = Uint8Array.from({ length: count }, (_, i) => (i * 31) % 251);
	return { data, bytes: count, sum: data.reduce((sum, byte) => (sum + byte) % 65_536, 0) };
}

/** An upload's result without the number of its chunks. */
const whole = ({ bytes, sum }) => ({ bytes, sum });

/** A source that gives what it is told to, when it is told to. */
function tap() {
	let feed;
	const source = new ReadableStream({ start: (controller) => void (feed = controller) });
	return { source, give: (chunk) => feed.enqueue(chunk), end: () => feed.close(), fail: (error) => feed.error(error) };
}

export const bytesChecks = [
	check('calls with bytes', async (world) => {
		const page = await world.page();
		const sum = page.rt.__binaryRpc('bin/sum');
		for (const count of [0, 1, 255, 1_024]) {
			const given = bytes(count);
			const want = { bytes: count, sum: given.sum, args: ['one', { two: [2] }] };
			equal(await sum(given.data, 'one', { two: [2] }), want, `${count} bytes`);
		}
		const { data } = bytes(1_000);
		equal((await sum(data.buffer)).bytes, 1_000, 'an ArrayBuffer');
		equal((await sum(data.subarray(10, 20))).bytes, 10, 'a part of one');
		const side = await Promise.all(Array.from({ length: 20 }, (_, i) => sum(bytes(i).data, i)));
		equal(side.map((reply) => reply.args[0]), Array.from({ length: 20 }, (_, i) => i), 'side by side');
	}),

	check('calls with bytes that fail', async (world) => {
		const page = await world.page();
		const { data } = bytes(10);
		const call = (path, ...args) => page.rt.__binaryRpc(path)(data, ...args);
		await fails(page.rt.__binaryRpc('bin/sum')(bytes(1_025).data), { code: 'PAYLOAD_TOO_LARGE' });
		await fails(call('bin/fail', 'OWN_CODE'), { code: 'OWN_CODE', message: 'failed on purpose' });
		await fails(call('bin/failIssues'), { code: 'VALIDATION' });
		await fails(call('bin/crash'), { code: 'INTERNAL_ERROR', message: 'Internal server error' });
		await fails(call('bin/missing'), { code: 'NOT_FOUND' });
		await fails(call('rpc/echo'), { code: 'INVALID_REQUEST' }, 'a call without bytes');
		await fails(call('adm/bytes'), { code: 'UNAUTHENTICATED' });
		await fails(page.call('bin/sum', 'text'), { code: 'INVALID_REQUEST' }, 'text instead of bytes');
		await fails(page.rt.__binaryRpc('bin/sum')(data, 'x'.repeat(65_536)), { code: 'PAYLOAD_TOO_LARGE' });
		equal(await page.call('ctl/ping'), 'pong', 'the connection goes on');
	}),

	check('an upload tells its progress and arrives whole', async (world) => {
		const page = await world.page();
		const given = bytes(190_000);
		const handle = page.rt.__upload('up/sum')(new Blob([given.data]), 'a name');
		const progress = [];
		handle.on('progress', (step) => progress.push(step));
		const reply = await handle;
		equal([reply.name, whole(reply)], ['a name', whole(given)], 'the result');
		equal(progress.at(-1)?.sent, 190_000, 'the last step');
		equal([progress.at(-1).total, handle.progress], [190_000, 1], 'all of it');
		if (!progress.every((step, i) => i === 0 || step.sent > progress[i - 1].sent)) throw new Error('progress went back');
		const again = await page.rt.__upload('up/sum')(given.data);
		if (again.chunks > 4) throw new Error(`${again.chunks} chunks, though the largest frame is known by now`);
	}),

	check('sources of every kind and size', async (world) => {
		const page = await world.page();
		const upload = page.rt.__upload('up/sum');
		for (const count of [0, 1, 12_288, 65_536, 200_000]) {
			const given = bytes(count);
			equal(whole(await upload(given.data)), whole(given), `${count} bytes`);
			equal(whole(await upload(given.data.buffer)), whole(given), `${count} bytes in a buffer`);
		}
		const { source, give, end } = tap();
		const streamed = upload(source);
		for (const size of [1, 30_000, 7, 0, 70_000]) {
			give(bytes(size).data);
			await sleep(5);
		}
		end();
		equal((await streamed).bytes, 100_008, 'a stream');
	}),

	check('a slow function holds the upload back, and does not fail it', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const given = bytes(199_000);
		const upload = page.rt.__upload('up/slow')(given.data, 40);
		const reply = await upload;
		equal(whole(reply), whole(given), 'the result');
		// More than the eight that may wait: reading had to pause.
		if (reply.chunks <= 8) throw new Error(`only ${reply.chunks} chunks`);
		equal(await page.call('ctl/ping'), 'pong', 'the connection goes on');
		equal(await other.call('ctl/ping'), 'pong', 'others');
	}),

	check('two uploads at once; a third is one too many', async (world) => {
		const page = await world.page();
		const upload = page.rt.__upload('up/slow');
		const all = [150_000, 120_000].map((count) => bytes(count));
		const running = all.map((given) => upload(given.data, 20));
		equal((await Promise.all(running)).map(whole), all.map(whole), 'two');
		const taps = [tap(), tap()];
		const open = taps.map(({ source, give }) => {
			give(bytes(BEGUN).data);
			return page.rt.__upload('up/sum')(source);
		});
		await until('both have begun', () => open.every((handle) => handle.sent > 0));
		await fails(page.rt.__upload('up/sum')(bytes(10).data), { code: 'TOO_MANY_UPLOADS' });
		taps.forEach(({ end }) => end());
		equal((await Promise.all(open)).map((reply) => reply.bytes), [BEGUN, BEGUN], 'the two');
		equal((await page.rt.__upload('up/sum')(bytes(10).data)).bytes, 10, 'there is room again');
	}),

	check('calls and streams go on beside an upload', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const space = freshSpace('beside');
		const stream = page.stream('st/items', space);
		let shown;
		stream.subscribe((value) => (shown = value));
		await becomes('the stream is there', () => shown, []);
		const { source, give, end } = tap();
		const upload = page.rt.__upload('up/sum')(source);
		for (let n = 0; n < 10; n++) {
			give(bytes(15_000).data);
			equal(await page.call('rpc/echo', n), n, 'a call');
			await other.call('st/emit', 'items', space, 'created', { id: n });
			await becomes('the event is shown', () => shown.length, n + 1);
		}
		end();
		equal((await upload).bytes, 150_000, 'the upload');
	}),

	check('an upload that is cancelled ends on both sides', async (world) => {
		const page = await world.page();
		const log = freshSpace('cancel');
		const { source, give } = tap();
		const handle = page.rt.__upload('up/watch')(source, log);
		const cancelled = [];
		handle.on('cancel', (reason) => cancelled.push(reason));
		give(bytes(BEGUN).data);
		await until('it has begun', () => handle.sent > 0);
		handle.cancel('enough');
		await fails(handle, { code: 'CANCELLED' });
		equal(cancelled, ['enough'], 'the reason');
		await becomes('the function knows', () => page.call('ctl/readLog', log), ['ended CANCELLED']);
		const early = page.rt.__upload('up/sum')(bytes(10).data);
		early.cancel();
		await fails(early, { code: 'CANCELLED' }, 'before it began');
		equal((await page.rt.__upload('up/sum')(bytes(10).data)).bytes, 10, 'the next');
	}),

	check('uploads that fail say why', async (world) => {
		const [page, user] = [await world.page(), await world.page({ user: freshSpace('u') })];
		const { data } = bytes(100);
		const upload = (path, ...args) => page.rt.__upload(path)(data, ...args);
		await fails(upload('up/fail', 'OWN_CODE'), { code: 'OWN_CODE', message: 'failed on purpose' });
		await fails(upload('up/crash'), { code: 'INTERNAL_ERROR', message: 'Internal server error' });
		await fails(upload('up/missing'), { code: 'NOT_FOUND' });
		await fails(upload('rpc/echo'), { code: 'INVALID_REQUEST' }, 'no upload');
		await fails(upload('upx/sum'), { code: 'UNAUTHENTICATED' });
		await fails(page.rt.__upload('up/small')(bytes(1_001).data), { code: 'PAYLOAD_TOO_LARGE' });
		await fails(page.rt.__upload('up/sum')(bytes(200_001).data), { code: 'PAYLOAD_TOO_LARGE' });
		equal((await user.rt.__upload('upx/sum')(data)).bytes, 100, 'with a user');
		equal(await page.rt.__upload('up/early')(bytes(150_000).data), 'enough', 'a function that has enough');
		const { source, give, fail } = tap();
		const broken = page.rt.__upload('up/sum')(source);
		give(bytes(BEGUN).data);
		await until('it has begun', () => broken.sent > 0);
		fail(new Error('the disk is gone'));
		await fails(broken, { code: 'SOURCE_ERROR' });
		equal(await page.call('ctl/ping'), 'pong', 'the connection goes on');
	}),

	check('access that is revoked ends an upload', async (world) => {
		const user = freshSpace('u');
		const [page, other] = [await world.page({ user }), await world.page()];
		const { source, give } = tap();
		const handle = page.rt.__upload('upx/sum')(source);
		const revoked = fails(handle, { code: 'REVOKED' });
		give(bytes(30_000).data);
		await until('it has begun', () => handle.sent > 0);
		await other.call('ctl/setFlag', `revoked:${user}`, true);
		let over = false;
		void revoked.finally(() => (over = true)).catch(() => {});
		for (let n = 0; n < 8 && !over; n++) {
			give(bytes(15_000).data);
			await sleep(20);
		}
		await revoked;
	}),

	check('a lost connection ends an upload on both sides, and the next works', async (world) => {
		const [page, other] = [await world.page(), await world.page()];
		const log = freshSpace('lost');
		const { source, give } = tap();
		const handle = page.rt.__upload('up/watch')(source, log);
		const lost = fails(handle, { code: 'DISCONNECTED' });
		give(bytes(BEGUN).data);
		await until('it has begun', () => handle.sent > 0);
		// Answered behind the first chunks: the function has begun.
		await page.call('ctl/ping');
		await page.wire('cut');
		await lost;
		await becomes('the function knows', () => other.call('ctl/readLog', log), ['ended DISCONNECTED']);
		const given = bytes(100_000);
		await until('it is back', async () => (await page.call('ctl/ping')) === 'pong');
		equal(whole(await page.rt.__upload('up/sum')(given.data)), whole(given), 'the next');
	}),

	check('uploads over a bad line', async (world) => {
		const page = await world.page();
		const given = bytes(180_000);
		await page.wire('delay', 8);
		const running = [page.rt.__upload('up/sum')(given.data), page.rt.__upload('up/slow')(given.data, 10)];
		await sleep(30);
		await page.wire('stall', 300);
		equal((await Promise.all(running)).map(whole), [whole(given), whole(given)], 'both');
	})
];
