// The published client, fed by hand. With frames, animation frames run when a case says so.
import { register } from 'node:module';

register('./stub/hooks.mjs', import.meta.url);

let frame = null;
export function useFrames() {
    globalThis.window = globalThis;
    globalThis.requestAnimationFrame = (callback) => {
        frame = callback;
        return 1;
    };
    globalThis.cancelAnimationFrame = () => (frame = null);
}

function runFrame() {
    const callback = frame;
    frame = null;
    callback?.(0);
}

let modules;
async function load() {
    const { __stream, __rpc } = await import('svelte-realtime/client');
    const { emit, wire } = await import('./stub/transport.mjs');
    return { __stream, __rpc, emit, wire };
}

const copy = (value) => (value === undefined ? null : JSON.parse(JSON.stringify(value)));
const turn = () => new Promise((resolve) => setImmediate(resolve));
let number = 0;

/** Plays one case and fills in `expect`, `notified` and `throws`. */
export async function observe(scenario) {
    modules ??= await load();
    const { __stream, emit, wire } = modules;
    const { options, initial } = scenario;
    const topic = `topic-${++number}`;
    const replies = [];
    wire.onsend = (request) => {
        for (const one of request.batch ?? [request]) replies.push(one.id);
    };
    const answer = (reply) => {
        for (const id of replies.splice(0)) emit('__rpc', id, { ...copy(reply), id, ok: true });
    };
    const store = __stream(`case/n${number}`, { ...options });
    let shown;
    let calls = 0;
    const reader = (value) => {
        shown = value;
        calls += 1;
    };
    let leave = store.subscribe(reader);
    await turn();
    const more = { hasMore: true, cursor: 'next' };
    answer({ topic, ...options, ...more, data: initial });

    const changes = new Map();
    const seen = { expect: [], notified: [], throws: [] };
    const steps = scenario.frames ?? scenario.events;
    for (const [place, step] of steps.entries()) {
        calls = 0;
        try {
            if (Array.isArray(step)) {
                for (const { event, data } of step) emit(topic, event, copy(data));
                runFrame();
            } else if (step.event !== undefined) {
                emit(topic, step.event, copy(step.data));
            } else if (step.reply) {
                leave();
                await turn();
                leave = store.subscribe(reader);
                await turn();
                calls = 0;
                answer({ topic, ...more, ...step.reply });
            } else if ('page' in step) {
                const done = store.loadMore();
                await turn();
                calls = 0;
                answer({ topic, ...more, data: step.page });
                await done;
            } else if (step.start) {
                const change = copy(step.start);
                let settle;
                const outcome = new Promise((resolve, reject) => (settle = { resolve, reject }));
                settle.done = store.mutate(() => outcome, change).catch(() => {});
                changes.set(step.id, settle);
            } else if ('settle' in step) {
                const settle = changes.get(step.settle);
                if (step.ok) settle.resolve(null);
                else settle.reject(new Error('refused'));
                await settle.done;
            } else {
                if (step.history) store.enableHistory(step.history);
                if (step.undo) store.undo();
                if (step.redo) store.redo();
                if (step.pause) store.pauseHistory();
                if (step.resume) store.resumeHistory();
            }
        } catch (error) {
            if (process.env.SHOW_ERRORS) console.error(scenario.name, place, error);
            seen.throws.push(place);
        }
        seen.expect.push(copy(shown));
        seen.notified.push(calls > 0);
    }
    for (const settle of changes.values()) settle.resolve(null);
    leave();
    frame = null;
    if (number % 64 === 0) await turn();
    return seen;
}
