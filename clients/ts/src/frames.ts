// The wire as text: what comes in, as one type that cannot hold anything invalid, and what goes out.
import { BATCH_BYTES_MAX, BATCH_TOPICS_MAX, MESSAGE_UNITS_MAX, TOPIC_UNITS_MAX } from './limits.js';
import type { Ref } from './types.js';

/** An event as it stands on the wire. */
export interface WireEvent {
	topic: string;
	event: string;
	data: unknown;
	seq?: unknown;
}

export type ServerFrame =
	| { kind: 'event'; event: WireEvent }
	| { kind: 'batch'; events: WireEvent[] }
	| { kind: 'welcome'; sessionId: string }
	| { kind: 'resumed' }
	| { kind: 'subscribed'; topic: string }
	| { kind: 'denied'; topic: string; reason: string; ref: unknown }
	| { kind: 'request'; ref: Ref; event: string; data: unknown };

/** The frame in a text message, or null for what is to be ignored. The first match wins. */
export function decode(text: string): ServerFrame | null {
	if (text.length > MESSAGE_UNITS_MAX) return null;
	let frame: any;
	try {
		frame = JSON.parse(text);
	} catch {
		return null;
	}
	if (typeof frame !== 'object' || frame === null) return null;
	if (frame.topic && frame.event !== undefined) return { kind: 'event', event: frame };
	switch (frame.type) {
		case 'batch':
			return Array.isArray(frame.events)
				? { kind: 'batch', events: frame.events.filter(isMember) }
				: null;
		case 'welcome':
			return typeof frame.sessionId === 'string'
				? { kind: 'welcome', sessionId: frame.sessionId }
				: null;
		case 'resumed':
			return { kind: 'resumed' };
		case 'subscribed':
			return typeof frame.topic === 'string' ? { kind: 'subscribed', topic: frame.topic } : null;
		case 'subscribe-denied':
			if (typeof frame.topic !== 'string' || typeof frame.reason !== 'string') return null;
			return { kind: 'denied', topic: frame.topic, reason: frame.reason, ref: frame.ref };
		case 'request':
			if (typeof frame.event !== 'string' || !isRef(frame.ref)) return null;
			return { kind: 'request', ref: frame.ref, event: frame.event, data: frame.data };
		default:
			return null;
	}
}

function isMember(member: any): member is WireEvent {
	return (
		typeof member === 'object' &&
		member !== null &&
		typeof member.topic === 'string' &&
		member.event !== undefined
	);
}

function isRef(ref: unknown): ref is Ref {
	return typeof ref === 'number' || typeof ref === 'string';
}

/** Answers to calls come on this topic. */
export const ANSWERS = '__rpc';

/** The topics that an answer, or a batch of them, gives to the caller. */
export function answeredTopics(answer: unknown): string[] {
	const { batch } = (answer ?? {}) as { batch?: unknown };
	return (Array.isArray(batch) ? batch : [answer])
		.map((one) => (one as { topic?: unknown } | null | undefined)?.topic)
		.filter((topic) => typeof topic === 'string');
}

/** The mark by which a server says that events of a topic were missed and it has to be loaded anew. */
export function isGapMark(event: WireEvent): boolean {
	const data = event.data as { reqId?: unknown; truncated?: unknown } | null | undefined;
	return (
		event.event === 'end' &&
		typeof data === 'object' &&
		data !== null &&
		data.truncated === true &&
		data.reqId === 0
	);
}

// What goes out. `type` has to come first: servers look at the first bytes.

export const HELLO = '{"type":"hello","caps":["batch"]}';

export const resumeFrame = (sessionId: string, positions: string): string =>
	`{"type":"resume","sessionId":${JSON.stringify(sessionId)},"lastSeenSeqs":${positions}}`;

export const unsubscribeFrame = (topic: string): string =>
	`{"type":"unsubscribe","topic":${JSON.stringify(topic)}}`;

export const subscribeFrame = (topic: string, ref: number): string =>
	`{"type":"subscribe","topic":${JSON.stringify(topic)},"ref":${ref}}`;

/** The topics in as few frames as the limits of a frame allow, each with its own ref. */
export function subscribeBatchFrames(topics: Iterable<string>, nextRef: () => number): string[] {
	const frames: string[] = [];
	let chunk: string[] = [];
	let bytes = BATCH_PRELUDE_BYTES;
	const finish = () => {
		if (chunk.length > 0)
			frames.push(`{"type":"subscribe-batch","topics":[${chunk.join()}],"ref":${nextRef()}}`);
		chunk = [];
		bytes = BATCH_PRELUDE_BYTES;
	};
	for (const topic of topics) {
		const quoted = JSON.stringify(topic);
		const size = utf8Length(quoted) + 1;
		if (chunk.length === BATCH_TOPICS_MAX || bytes + size > BATCH_BYTES_MAX) finish();
		chunk.push(quoted);
		bytes += size;
	}
	finish();
	return frames;
}

/** The answer to a question of the server. `data` that JSON leaves out is null. */
export const replyFrame = (ref: Ref, data: unknown): string =>
	`{"type":"reply","ref":${JSON.stringify(ref)},"data":${JSON.stringify(data) ?? 'null'}}`;

export const errorReplyFrame = (ref: Ref, error: string): string =>
	`{"type":"reply","ref":${JSON.stringify(ref)},"error":${JSON.stringify(error)}}`;

/** Whether any server would take this name; others are refused here, without asking. */
export function isTopicName(topic: string): boolean {
	return topic.length > 0 && topic.length <= TOPIC_UNITS_MAX && !/[\u0000-\u001f"\\]/.test(topic);
}

/** Names of the server's own traffic: delivered without being asked for, never subscribed. */
export const isSystemTopic = (topic: string): boolean => topic.startsWith('__');

/** Length in UTF-8 without encoding it. */
export function utf8Length(text: string): number {
	let bytes = text.length;
	for (let i = 0; i < text.length; i++) {
		const unit = text.charCodeAt(i);
		if (unit < 0x80) continue;
		// A surrogate pair is two units and four bytes, so each half counts one more than its unit.
		bytes += unit >= 0x800 && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
	}
	return bytes;
}

const BATCH_PRELUDE_BYTES = 50;
