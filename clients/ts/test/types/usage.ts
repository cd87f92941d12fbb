// Not run: it compiles, or the public types are not what they should be.
import { derived, get, type Readable as SvelteReadable } from 'svelte/store';
import {
	connect, count, createConnection, crud, failure, gaps, latest, lookup, on, onDerived, onRequest, once, status,
	type Envelope, type Failure, type Status
} from '../../dist/index.js';
import { NodeSocket } from '../../dist/node.js';

interface Room {
	id: number;
	name: string;
}

// Our stores are Svelte's, and Svelte's may be given to us.
export const plain: SvelteReadable<Envelope<Room> | null> = on<Room>('rooms');
export const named: SvelteReadable<string> = derived(on<Room>('rooms', 'created'), (e) => e?.data.name ?? '');
export const chosen: SvelteReadable<Envelope<Room> | null> = onDerived((id: number) => `room:${id}`, count('n'));
export const now: Status = get(status);
export const why: Failure['class'] | undefined = get(failure)?.class;
export const missed: 'server' | 'client' | undefined = get(gaps)?.from;

export const list: SvelteReadable<Room[]> = crud<Room>('rooms', [], { prepend: true, maxAge: 1_000, max: 10 });
export const map: SvelteReadable<Record<string, Room>> = lookup<Room>('rooms', [], { key: 'name' });
export const log: SvelteReadable<Envelope<Room>[]> = latest<Room>('rooms', 10);
export const total: SvelteReadable<number> = on<Room>('rooms').scan(0, (n, { data }) => n + data.id);
export const next: Promise<{ data: Room }> = once<Room>('rooms', 'created', { timeout: 100 });
export const anything: Promise<Envelope<Room>> = once<Room>('rooms', { timeout: 100 });
export const remove: () => void = onRequest(async (event, data: Room) => `${event} ${data.name}`);

const connection = connect({ path: '/live', auth: '/login', debug: (what: string) => console.log(what) });
export const sent: boolean = connection.send(new Uint8Array(1)) && connection.sendQueued({ a: 1 });
export const other = createConnection({ url: 'ws://localhost/ws', WebSocket: NodeSocket });

// @ts-expect-error -- crud takes a list
crud('rooms', { id: 1 });
// @ts-expect-error -- stores are read only
connection.status.set('open');
// @ts-expect-error -- not an option
connect({ reconnectIntervall: 1 });
// @ts-expect-error -- an event's reader gets no topic
on<Room>('rooms', 'created').subscribe((e) => e?.topic);
