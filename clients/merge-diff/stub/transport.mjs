// A transport without a network: what the client sends is handed to `onsend`, and `emit` delivers
// an envelope to whoever listens on its topic.
import { writable } from 'svelte/store';

const topics = new Map();
export const wire = { onsend: () => {} };

export function emit(topic, event, data) {
    for (const listener of [...(topics.get(topic) ?? [])]) listener({ topic, event, data });
}

export function on(topic) {
    return {
        subscribe(listener) {
            if (!topics.has(topic)) topics.set(topic, new Set());
            topics.get(topic).add(listener);
            listener(null);
            return () => topics.get(topic)?.delete(listener);
        }
    };
}

function send(frame) {
    wire.onsend(typeof frame === 'string' ? JSON.parse(frame) : frame);
    return true;
}

const connection = {
    send,
    sendQueued: send,
    sendBinary: () => true,
    close() {},
    ready: () => Promise.resolve(),
    bufferedAmount: 0
};

export const connect = () => connection;
export const status = writable('open');
export const denials = writable(null);
export const failure = writable(null);
export const onRequest = () => () => {};
export const onDerived = () => ({ subscribe: () => () => {} });
