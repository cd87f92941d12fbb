// Where the recorded sessions show what should not happen, and our client can do something about it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Stage } from '../lib/stage.mjs';

const file = new URL('../../../../vectors/client-sessions.json', import.meta.url);
const { sessions } = JSON.parse(readFileSync(file, 'utf8'));
const LATEST = { merge: 'latest', max: 10 };

test('with handOver off, a second stream on the same topic does not repeat the last event', async () => {
	const session = sessions.find((s) => s.name.includes('repeats the last event'));
	const second = async (t, rt) => {
		await t.play(2);
		t.watch('first', rt.__stream('m/log', LATEST));
		await t.play(2);
		t.watch('second', rt.__stream('m/log2', LATEST));
	};
	const log = await Stage.play(session, second, { handOver: false });
	assert.deepEqual(log.filter((s) => s.store === 'second').at(-1), { store: 'second', value: ['E1'] });
	assert.deepEqual(log, session.transcript.slice(0, -1));
});

test('a call on a connection that will never open fails at once', async () => {
	const fetch = async () => ({ status: 401, statusText: 'Unauthorized' });
	const refused = async (t, rt) => {
		t.result('first', rt.__rpc('m/f')(1));
		await t.settle();
		t.result('second', rt.__rpc('m/f')(2));
		const store = rt.__stream('m/items', LATEST);
		t.watch('error', store.error);
		t.watch('items', store);
	};
	const name = 'refused';
	const log = await Stage.play({ name, transcript: [] }, refused, { auth: true, fetch });
	const codes = (kind) => log.filter((s) => kind in s).map((s) => (s.error ?? s.value)?.code);
	assert.deepEqual(codes('result'), ['CONNECTION_CLOSED', 'CONNECTION_CLOSED']);
	assert.ok(codes('store').includes('CONNECTION_CLOSED'), 'and so does a stream');
});
