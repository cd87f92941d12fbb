import { isSystemTopic, isTopicName } from './frames.js';
import { Signal } from './signal.js';
import type { Denial, Envelope } from './types.js';

/** Where a topic stands with the server on the present connection. */
type Wire = 'none' | 'asked' | 'acknowledged' | 'denied';

interface Topic {
	/** Stores that read it. */
	readers: number;
	/** Asked for by name, without a reader. */
	pinned: boolean;
	/** Given up by name, whoever reads it. Ends with the next reader. */
	muted: boolean;
	wire: Wire;
	/** Ours because an answer of the server named it. */
	granted: boolean;
	envelope: Signal<Envelope | null>;
	byEvent: Map<string, Signal<{ data: unknown } | null>>;
}

/**
 * Who wants which topic, and what the server has been told. Changes of one turn are collected, so
 * taking a topic and letting go of it again tells the server nothing.
 */
export class Topics {
	readonly #topics = new Map<string, Topic>();
	readonly #max: number;
	/** Topics to be asked for, and given up, at the end of the turn. */
	#asks = new Set<string>();
	#drops = new Set<string>();
	/** Granted topics that a new connection asks for, until the server answers that. */
	#renewals = new Set<string>();

	constructor(max: number) {
		this.#max = max;
	}

	get size(): number {
		return this.#topics.size;
	}

	get acknowledged(): number {
		let count = 0;
		for (const topic of this.#topics.values()) if (topic.wire === 'acknowledged') count++;
		return count;
	}

	/** Whether the server has something to be told. */
	get changed(): boolean {
		return this.#asks.size > 0 || this.#drops.size > 0;
	}

	isWanted(name: string): boolean {
		const topic = this.#topics.get(name);
		return topic !== undefined && wanted(topic);
	}

	/** Adds a reader. Returns the denial if the name, or one more topic, is out of the question. */
	attach(name: string): Denial | null {
		const topic = this.#topics.get(name) ?? this.#add(name);
		if ('reason' in topic) return topic;
		topic.readers++;
		this.#unmute(name, topic);
		return null;
	}

	detach(name: string): void {
		const topic = this.#topics.get(name);
		if (!topic || topic.readers === 0) return;
		topic.readers--;
		if (topic.readers === 0) {
			// Whoever comes next starts afresh, even if the server never hears of the pause.
			topic.envelope = new Signal<Envelope | null>(null);
			topic.byEvent.clear();
		}
		this.#settle(name, topic);
	}

	pin(name: string): Denial | null {
		const topic = this.#topics.get(name) ?? this.#add(name);
		if ('reason' in topic) return topic;
		topic.pinned = true;
		this.#unmute(name, topic);
		return null;
	}

	mute(name: string): void {
		const topic = this.#topics.get(name);
		if (!topic) return;
		topic.pinned = false;
		topic.muted = true;
		this.#settle(name, topic);
	}

	/** The store of a topic somebody reads. */
	envelope(name: string): Signal<Envelope | null> | undefined {
		return this.#topics.get(name)?.envelope;
	}

	/** The store of one of its events. */
	event(name: string, event: string): Signal<{ data: unknown } | null> | undefined {
		const topic = this.#topics.get(name);
		if (!topic) return undefined;
		let signal = topic.byEvent.get(event);
		if (!signal) topic.byEvent.set(event, (signal = new Signal<{ data: unknown } | null>(null)));
		return signal;
	}

	/** Gives an event to the topic's readers. */
	dispatch(envelope: Envelope): void {
		const topic = this.#topics.get(envelope.topic);
		if (!topic) return;
		topic.envelope.set(envelope);
		topic.byEvent.get(envelope.event)?.set({ data: envelope.data });
	}

	/**
	 * Notes the server's answer. Returns whether it is news: a server that keeps a granted topic from a
	 * new connection, which has not asked for the topic's stream yet, has not refused the stream.
	 */
	answered(name: string, wire: 'acknowledged' | 'denied'): boolean {
		const topic = this.#topics.get(name);
		if (topic && topic.wire !== 'none') topic.wire = wire;
		return !this.#renewals.delete(name);
	}

	/** Notes that the server named a topic in an answer to a call. */
	grant(name: string): void {
		const topic = this.#topics.get(name);
		if (topic) topic.granted = true;
	}

	/** Topics to give up, which counts as done. */
	takeDrops(): string[] {
		const names = [...this.#drops];
		this.#drops.clear();
		for (const name of names) {
			const topic = this.#topics.get(name)!;
			topic.wire = 'none';
			this.#forgetIfUnused(name, topic);
		}
		return names;
	}

	/** Topics to ask for, which counts as done. */
	takeAsks(): string[] {
		const names = [...this.#asks];
		this.#asks.clear();
		for (const name of names) this.#topics.get(name)!.wire = 'asked';
		return names;
	}

	/** A new connection: everything that is wanted has to be asked for, in the order of arrival. */
	takeAll(): string[] {
		this.lost();
		const names: string[] = [];
		for (const [name, topic] of this.#topics) {
			if (!wanted(topic) || isSystemTopic(name)) continue;
			topic.wire = 'asked';
			if (topic.granted) this.#renewals.add(name);
			names.push(name);
		}
		return names;
	}

	/** The connection is gone: the server has forgotten us. */
	lost(): void {
		this.#asks.clear();
		this.#drops.clear();
		this.#renewals.clear();
		for (const [name, topic] of this.#topics) {
			topic.wire = 'none';
			this.#forgetIfUnused(name, topic);
		}
	}

	#add(name: string): Topic | Denial {
		if (!isTopicName(name)) return { topic: name, reason: 'INVALID_TOPIC', ref: null };
		if (this.#topics.size >= this.#max) return { topic: name, reason: 'RATE_LIMITED', ref: null };
		const topic: Topic = {
			readers: 0,
			pinned: false,
			muted: false,
			wire: 'none',
			granted: false,
			envelope: new Signal<Envelope | null>(null),
			byEvent: new Map()
		};
		this.#topics.set(name, topic);
		return topic;
	}

	#unmute(name: string, topic: Topic): void {
		topic.muted = false;
		this.#settle(name, topic);
	}

	/** Brings the two sets in line with what is wanted of one topic. */
	#settle(name: string, topic: Topic): void {
		if (!isSystemTopic(name)) {
			const toldSo = topic.wire !== 'none';
			setMember(this.#asks, name, wanted(topic) && !toldSo);
			setMember(this.#drops, name, !wanted(topic) && toldSo);
		}
		this.#forgetIfUnused(name, topic);
	}

	#forgetIfUnused(name: string, topic: Topic): void {
		if (topic.readers === 0 && !topic.pinned && topic.wire === 'none') this.#topics.delete(name);
	}
}

const wanted = (topic: Topic): boolean => !topic.muted && (topic.readers > 0 || topic.pinned);

function setMember(set: Set<string>, name: string, member: boolean): void {
	if (member) set.add(name);
	else set.delete(name);
}
