// What a page does, in a real browser. It tells the test how things ended.
import { connect, crud, on, ready, status } from 'svelte-adapter-uws/client';
import { __rpc, __stream } from 'svelte-realtime/client';

const until = async (what, condition) => {
	const end = Date.now() + 10_000;
	while (!condition()) {
		if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
		await new Promise((done) => setTimeout(done, 10));
	}
};
const last = (store) => {
	const seen = { values: [] };
	store.subscribe((value) => seen.values.push(value));
	return seen;
};

async function run() {
	connect({ reconnectInterval: 100 });
	const statuses = last(status).values;
	await ready();
	const rooms = last(crud('rooms', [{ id: 1 }]));
	const any = last(on('rooms'));
	const items = last(__stream('m/items', { merge: 'crud', key: 'id' }));
	const answer = await __rpc('m/echo')('hello');
	await until('the list has two rooms', () => rooms.values.at(-1).length === 2);
	await until('the stream has two items', () => items.values.at(-1)?.length === 2);
	await __rpc('m/cut')().catch(() => {});
	await until('the connection is back', () => statuses.filter((s) => s === 'open').length === 2);
	await until('the stream is loaded again', () => items.values.at(-1).some((i) => i.id === 'reloaded'));
	const again = await __rpc('m/echo')('again');
	return { answer, again, statuses, rooms: rooms.values.at(-1), event: any.values.at(-1), items: items.values.at(-1) };
}

const report = (result) => fetch('/report', { method: 'POST', body: JSON.stringify(result) });
run().then(report, (error) => report({ failed: String(error?.stack ?? error) }));
