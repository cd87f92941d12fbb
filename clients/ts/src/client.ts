// The connection's life: connecting, open, waiting to come back, failed. Everything that is kept while
// connections come and go (readers, queue, positions) lives as long as the client.
import { Alarm } from './alarm.js';
import { classifyCloseCode, nextReconnectDelay } from './backoff.js';
import {
	environment,
	isHidden,
	nextFrame,
	place,
	watchPage,
	type Environment,
	type Place
} from './environment.js';
import {
	ANSWERS,
	HELLO,
	answeredTopics,
	decode,
	errorReplyFrame,
	isGapMark,
	replyFrame,
	resumeFrame,
	subscribeBatchFrames,
	subscribeFrame,
	unsubscribeFrame,
	type WireEvent
} from './frames.js';
import { topicStore } from './helpers.js';
import {
	HEALTHY_AFTER_MS,
	OPEN_TIMEOUT_MS,
	POSITIONS_MAX,
	QUEUE_BYTES_MAX,
	QUEUE_MAX,
	RECONNECT_MAX_MS,
	RECONNECT_MS,
	REQUESTS_MAX,
	RESUME_BYTES_MAX,
	SILENCE_CHECK_MS,
	SILENCE_MS,
	THROTTLE_ATTEMPT,
	TOPICS_MAX
} from './limits.js';
import { Marks } from './marks.js';
import { Positions } from './positions.js';
import { SendQueue, encode, type Payload } from './queue.js';
import { Signal, guarded } from './signal.js';
import { Topics } from './topics.js';
import type {
	ConnectOptions,
	Connection,
	Denial,
	Envelope,
	Failure,
	Gap,
	Ref,
	RequestHandler,
	SocketLike,
	Stats,
	Status,
	TopicStore,
	Unsubscribe
} from './types.js';

/**
 * `idle`: not used yet, or closed on purpose; `inert`: nowhere to connect to; `preflight`, `opening`:
 * an attempt is under way; `bursting`: open, but the first frames are still being written;
 * `waiting`: for the next attempt; `failed`: for good.
 */
type Phase =
	'idle' | 'inert' | 'preflight' | 'opening' | 'bursting' | 'open' | 'waiting' | 'failed';

const OPEN = 1;

export class Client implements Connection {
	readonly #status = new Signal<Status>('disconnected');
	readonly #failure = new Signal<Failure | null>(null);
	readonly #denials = new Signal<Denial | null>(null);
	readonly #gaps = new Signal<Gap | null>(null);
	readonly #events = new Signal<Envelope | null>(null);
	readonly events = this.#events.readonly();
	readonly status = this.#status.readonly();
	readonly failure = this.#failure.readonly();
	readonly denials = this.#denials.readonly();
	readonly gaps = this.#gaps.readonly();

	#phase: Phase = 'idle';
	#options: ConnectOptions = {};
	#env: Environment = environment({});
	#place: Place | null = null;
	#socket: SocketLike | null = null;
	/** Counts attempts ever made: what belongs to an earlier one is ignored. */
	#generation = 0;
	#attempt = 0;
	/** Whether the present connection has carried an event. */
	#fruitful = false;
	#openedAt = 0;
	readonly #retryAlarm = new Alarm(() => this.#env.timers);
	readonly #openAlarm = new Alarm(() => this.#env.timers);
	readonly #silenceAlarm = new Alarm(() => this.#env.timers);
	#asking: AbortController | null = null;
	#stopWatching: () => void = () => {};
	/** Ends the wait for a frame. */
	#callOff: () => void = () => {};
	/** Those who wait for the connection share one promise. */
	#waiting: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } | null = null;

	readonly #topics = new Topics(TOPICS_MAX);
	readonly #positions = new Positions(POSITIONS_MAX);
	readonly #marks = new Marks(
		() => this.#env.timers,
		(mark) => this.#deliver(mark)
	);
	readonly #queue = new SendQueue(QUEUE_MAX, QUEUE_BYTES_MAX);
	#sessionId: string | null = null;
	#ref = 0;
	#flushDue = false;
	#refused: Denial[] = [];
	#handler: RequestHandler | null = null;
	#requests = 0;
	#opened = 0;
	#received = 0;
	#ignored = 0;
	#withheld = 0;
	#lastMessageAt = 0;

	/** Connects unless that has happened. Options count for the first call, or the first with an address. */
	connect(options?: ConnectOptions): this {
		if (this.#phase !== 'idle' && this.#phase !== 'inert') {
			if (options && !agrees(options, this.#options)) {
				console.warn(
					'[millstream] connect() comes too late for its options: the connection was made by an earlier use of' +
						' on(), status, once() or ready(). Call connect() before those.'
				);
			}
			return this;
		}
		if (this.#phase === 'inert' && options?.url === undefined) return this;
		if (options) this.#options = options;
		this.#env = environment(this.#options);
		this.#place = place(this.#options);
		if (!this.#place) {
			this.#phase = 'inert';
			this.#release(null);
			return this;
		}
		if (!this.#env.Socket) {
			throw new TypeError(
				"there is no WebSocket here: pass connect({ WebSocket }), or import '@millstream/client-transport/node' first"
			);
		}
		this.#queue.limit(
			this.#options.queueMax ?? QUEUE_MAX,
			this.#options.queueBytesMax ?? QUEUE_BYTES_MAX
		);
		this.#stopWatching = watchPage(
			() => this.#handleVisibility(),
			() => this.#handleOnline()
		);
		this.#attempt = 0;
		this.#failure.set(null);
		this.#start();
		return this;
	}

	on(topic: string): TopicStore<Envelope<any>>;
	on(topic: string, event: string): TopicStore<{ data: any }>;
	on(topic: string, event?: string): TopicStore<any> {
		return topicStore((run) => this.#read(topic, event, run));
	}

	subscribe(topic: string): void {
		this.#refuse(this.#topics.pin(topic));
		this.#flushSoon();
	}

	unsubscribe(topic: string): void {
		this.#topics.mute(topic);
		this.#flushSoon();
	}

	send(data: unknown): boolean {
		if (!this.#canWrite()) return false;
		this.#flushDrops();
		this.#env.log('send ->', data);
		this.#write(encode(data));
		return true;
	}

	sendQueued(data: unknown): boolean {
		if (this.#phase === 'open' && this.send(data)) return true;
		if (this.#phase === 'failed') {
			this.#queue.dropped++;
			return false;
		}
		this.#env.log('queued ->', data);
		const dropped = this.#queue.push(encode(data));
		if (dropped > 0)
			console.warn(`[millstream] the send queue is full: dropped ${dropped} of its messages`);
		return true;
	}

	get bufferedAmount(): number {
		return this.#socket?.bufferedAmount ?? 0;
	}

	onRequest(handler: RequestHandler): () => void {
		this.#handler = handler;
		return () => {
			if (this.#handler === handler) this.#handler = null;
		};
	}

	ready(): Promise<void> {
		if (this.#phase === 'open' || this.#phase === 'bursting' || this.#phase === 'inert')
			return Promise.resolve();
		if (this.#phase === 'failed' || this.#phase === 'idle')
			return Promise.reject(closedForGood(this.#failure.value));
		if (!this.#waiting) {
			let resolve = () => {};
			let reject: (error: Error) => void = () => {};
			const promise = new Promise<void>((yes, no) => ([resolve, reject] = [yes, no]));
			this.#waiting = { promise, resolve, reject };
		}
		return this.#waiting.promise;
	}

	stats(): Stats {
		return {
			opened: this.#opened,
			attempt: this.#attempt,
			topics: this.#topics.size,
			acknowledged: this.#topics.acknowledged,
			received: this.#received,
			ignored: this.#ignored,
			withheld: this.#withheld,
			queued: this.#queue.length,
			queuedBytes: this.#queue.bytes,
			dropped: this.#queue.dropped,
			positions: this.#positions.size,
			requests: this.#requests,
			lastMessageAt: this.#lastMessageAt
		};
	}

	close(): void {
		if (this.#phase === 'idle') return;
		this.#leave();
		this.#phase = 'idle';
		this.#queue.clear();
		this.#failure.set(null);
		this.#status.set('failed');
		this.#release(closedForGood(null));
	}

	// Attempts.

	#start(): void {
		const generation = ++this.#generation;
		this.#asking?.abort();
		this.#retryAlarm.cancel();
		const { openTimeout = OPEN_TIMEOUT_MS } = this.#options;
		if (openTimeout > 0) {
			this.#openAlarm.set(openTimeout, () =>
				this.#abandon(1006, `not open after ${openTimeout} ms`)
			);
		}
		this.#phase = this.#place!.auth === null ? 'opening' : 'preflight';
		this.#status.set('connecting');
		// A reader of the status may have closed us.
		if (generation !== this.#generation) return;
		if (this.#place!.auth === null) this.#openSocket();
		else void this.#preflight(this.#place!.auth, generation);
	}

	/** Asks the server over HTTP whether to connect, which lets it set cookies on a plain response. */
	async #preflight(url: string, generation: number): Promise<void> {
		let status = 0;
		let reason = 'network error';
		this.#asking = new AbortController();
		try {
			const response = await this.#env.fetch(url, {
				method: 'POST',
				credentials: 'include',
				signal: this.#asking.signal,
				headers: { 'x-requested-with': 'XMLHttpRequest' }
			});
			status = response.status;
			reason = response.statusText || (status < 500 ? 'unauthorized' : 'service unavailable');
		} catch (error) {
			this.#env.log('preflight failed', error);
		}
		if (generation !== this.#generation || this.#phase !== 'preflight') return;
		if (status >= 200 && status < 300) {
			this.#phase = 'opening';
			this.#openSocket();
			return;
		}
		this.#env.log('preflight refused', status);
		const failure: Failure = { kind: 'auth-preflight', class: 'AUTH', status, reason };
		if (status >= 400 && status < 500) this.#fail(failure);
		else this.#retry(failure);
	}

	#openSocket(): void {
		let socket: SocketLike;
		try {
			socket = new this.#env.Socket!(this.#place!.socket);
		} catch (error) {
			// Not an accident of the network: the address is wrong, or the page may not use it.
			this.#fail({ kind: 'ws-close', class: 'TERMINAL', code: 1006, reason: messageOf(error) });
			return;
		}
		this.#socket = socket;
		socket.binaryType = 'arraybuffer';
		socket.onopen = () => this.#handleOpen(socket);
		socket.onmessage = (event) => this.#handleMessage(socket, event.data);
		socket.onerror = () => this.#env.log('socket error');
		socket.onclose = (event) => this.#handleClose(socket, event.code ?? 1006, event.reason ?? '');
		// Programs see the server's pings, and a ping is a sign of life. Browsers keep them to themselves.
		(socket as { on?: (name: string, run: () => void) => void }).on?.('ping', () => {
			if (socket === this.#socket) this.#lastMessageAt = this.#env.now();
		});
	}

	// What happens.

	#handleOpen(socket: SocketLike): void {
		if (socket !== this.#socket) return;
		this.#openAlarm.cancel();
		this.#phase = 'bursting';
		this.#opened++;
		this.#fruitful = false;
		this.#openedAt = this.#lastMessageAt = this.#env.now();
		this.#watchSilence();
		this.#env.log('connected');
		this.#write(HELLO);
		this.#failure.set(null);
		// What readers of the status send now goes out before the topics are asked for: a login, say.
		this.#status.set(isHidden() ? 'suspended' : 'open');
		if (socket !== this.#socket || this.#phase !== 'bursting') return;
		const gaps = this.#writeResume();
		for (const frame of subscribeBatchFrames(this.#topics.takeAll(), () => ++this.#ref))
			this.#write(frame);
		this.#phase = 'open';
		this.#flushQueue();
		this.#release(null);
		for (const topic of gaps) this.#gaps.set({ topic, from: 'client' });
	}

	#handleMessage(socket: SocketLike, data: unknown): void {
		if (socket !== this.#socket) return;
		this.#lastMessageAt = this.#env.now();
		this.#received++;
		const frame = typeof data === 'string' ? decode(data) : null;
		switch (frame?.kind) {
			case 'event':
				return this.#dispatch(frame.event);
			case 'batch':
				return frame.events.forEach((event) => this.#dispatch(event));
			case 'welcome':
				return this.#remember(frame.sessionId);
			case 'subscribed':
				this.#env.log('subscribed', frame.topic);
				return void this.#topics.answered(frame.topic, 'acknowledged');
			case 'denied':
				if (!this.#topics.answered(frame.topic, 'denied')) {
					this.#withheld++;
					return this.#env.log('denied until its stream is asked for', frame.topic);
				}
				return this.#deny({ topic: frame.topic, reason: frame.reason, ref: frame.ref });
			case 'request':
				return void this.#answer(socket, frame.ref, frame.event, frame.data);
			case 'resumed':
				return this.#env.log('resumed');
			default:
				this.#ignored++;
		}
	}

	#handleClose(socket: SocketLike, code: number, reason: string): void {
		if (socket !== this.#socket) return;
		this.#env.log('disconnected', { code, reason });
		const wasOpen = this.#phase === 'open' || this.#phase === 'bursting';
		this.#drop();
		// A server that accepts and hangs up at once must not be asked every three seconds.
		if (wasOpen && (this.#fruitful || this.#env.now() - this.#openedAt >= HEALTHY_AFTER_MS))
			this.#attempt = 0;
		const failure: Failure = { kind: 'ws-close', class: classifyCloseCode(code), code, reason };
		if (failure.class === 'TERMINAL') return this.#fail(failure);
		if (failure.class === 'THROTTLE') this.#attempt = Math.max(this.#attempt, THROTTLE_ATTEMPT);
		this.#retry(failure);
	}

	#handleVisibility(): void {
		if (this.#phase === 'open' || this.#phase === 'bursting') {
			if (isHidden()) this.#status.set('suspended');
			else this.#withFrame(() => this.#showOpen());
		} else if (!isHidden() && this.#phase === 'waiting') {
			this.#attempt = 0;
			this.#startAgain();
		}
	}

	#handleOnline(): void {
		if (this.#phase === 'waiting') this.#startAgain();
	}

	/** Shows that the connection is open, if it still is. */
	#showOpen(): void {
		if (this.#phase === 'open' || this.#phase === 'bursting')
			this.#status.set(isHidden() ? 'suspended' : 'open');
	}

	#startAgain(): void {
		this.#retryAlarm.cancel();
		this.#withFrame(() => {
			if (this.#phase === 'waiting') this.#start();
		});
	}

	/**
	 * svelte-realtime puts events off to the next frame, and loads its streams anew when the connection
	 * is open again. What it has put off until then is older: a frame goes before.
	 */
	#withFrame(run: () => void): void {
		this.#callOff();
		this.#callOff = nextFrame(this.#env.timers, run);
	}

	// Ends.

	/** Lets go of a socket that will not say goodbye, as if it had closed. */
	#abandon(code: number, reason: string): void {
		const socket = this.#socket;
		if (socket) this.#handleClose(socket, code, reason);
		else if (this.#phase === 'preflight')
			this.#retry({ kind: 'auth-preflight', class: 'AUTH', status: 0, reason });
	}

	#retry(failure: Failure): void {
		this.#openAlarm.cancel();
		const {
			maxReconnectAttempts = Infinity,
			reconnectInterval = RECONNECT_MS,
			maxReconnectInterval = RECONNECT_MAX_MS
		} = this.#options;
		if (this.#attempt >= maxReconnectAttempts) {
			if (failure.kind === 'auth-preflight') return this.#fail(failure);
			return this.#fail({
				...failure,
				class: 'EXHAUSTED',
				reason: failure.reason || 'max reconnect attempts exhausted'
			});
		}
		const generation = ++this.#generation;
		this.#phase = 'waiting';
		const delay = nextReconnectDelay(
			reconnectInterval,
			maxReconnectInterval,
			this.#attempt++,
			this.#env.random
		);
		this.#retryAlarm.set(delay, () => this.#startAgain());
		this.#env.log('next attempt in ms', Math.round(delay));
		this.#failure.set(failure);
		if (generation === this.#generation && this.#phase === 'waiting')
			this.#status.set('disconnected');
	}

	#fail(failure: Failure): void {
		this.#leave();
		this.#phase = 'failed';
		this.#queue.clear();
		this.#failure.set(failure);
		this.#status.set('failed');
		this.#release(closedForGood(failure));
	}

	/** Ends everything that runs: socket, timers, watchers. */
	#leave(): void {
		this.#generation++;
		this.#asking?.abort();
		this.#drop();
		this.#callOff();
		this.#retryAlarm.cancel();
		this.#stopWatching();
		this.#stopWatching = () => {};
	}

	/** Lets go of the socket; what it still says is not heard. */
	#drop(): void {
		const socket = this.#socket;
		this.#socket = null;
		this.#openAlarm.cancel();
		this.#silenceAlarm.cancel();
		this.#topics.lost();
		// Streams are loaded anew on the next connection anyway. On a mark they would be asked for now,
		// wait in the queue, and then be asked for twice.
		this.#marks.drop();
		if (!socket) return;
		// A socket that never opened reports an error when it is closed; `ws` would throw it at nobody.
		socket.onerror = () => {};
		if (socket.readyState <= OPEN) guarded(() => socket.close(), 'the socket would not close');
	}

	/** Settles those who wait for the connection. */
	#release(error: Error | null): void {
		const waiting = this.#waiting;
		this.#waiting = null;
		if (error) waiting?.reject(error);
		else waiting?.resolve();
	}

	#watchSilence(): void {
		const { silenceTimeout = SILENCE_MS } = this.#options;
		if (silenceTimeout <= 0) return;
		this.#silenceAlarm.set(Math.min(SILENCE_CHECK_MS, silenceTimeout), () => {
			const silent = this.#env.now() - this.#lastMessageAt;
			if (silent > silenceTimeout) this.#abandon(1006, `silent for ${silent} ms`);
			else this.#watchSilence();
		});
		// It alone does not keep a program alive; the socket does.
		this.#silenceAlarm.unref();
	}

	// Reading.

	#read(topic: string, event: string | undefined, run: (value: any) => void): Unsubscribe {
		const denial = this.#topics.attach(topic);
		if (denial) {
			this.#refuse(denial);
			run(null);
			return () => {};
		}
		const signal: Signal<any> =
			event === undefined ? this.#topics.envelope(topic)! : this.#topics.event(topic, event)!;
		// What is loaded from now on has everything that a mark says was missed.
		const old = event === undefined && signal.value !== null && isGapMark(signal.value);
		let late = old || (signal.value !== null && this.#options.handOver === false);
		const leave = signal.subscribe((value) => {
			run(late ? null : value);
			late = false;
		});
		this.#flushSoon();
		let attached = true;
		return () => {
			if (!attached) return;
			attached = false;
			leave();
			this.#topics.detach(topic);
			this.#flushSoon();
		};
	}

	#dispatch({ topic, event, data, seq }: WireEvent): void {
		this.#fruitful = true;
		this.#positions.note(topic, seq);
		const envelope: Envelope = { topic, event, data };
		this.#env.log('<-', envelope);
		if (isGapMark(envelope)) {
			this.#marks.put(envelope);
			this.#gaps.set({ topic, from: 'server' });
			return;
		}
		this.#deliver(envelope);
		if (topic === ANSWERS) for (const name of answeredTopics(data)) this.#topics.grant(name);
	}

	#deliver(envelope: Envelope): void {
		this.#events.set(envelope);
		this.#topics.dispatch(envelope);
	}

	#deny(denial: Denial): void {
		console.warn(`[millstream] the topic ${denial.topic} was refused: ${denial.reason}`);
		this.#denials.set(denial);
	}

	/** Reports a refusal of our own at the end of the turn, as the server's would come later too. */
	#refuse(denial: Denial | null): void {
		if (!denial || this.#refused.length >= REQUESTS_MAX) return;
		this.#refused.push(denial);
		this.#flushSoon();
	}

	async #answer(socket: SocketLike, ref: Ref, event: string, data: unknown): Promise<void> {
		const handler = this.#handler;
		if (!handler) return;
		// An answer belongs to the connection that asked: elsewhere nobody waits for it.
		const reply = (frame: string) => {
			if (socket === this.#socket && this.#canWrite()) this.#write(frame);
		};
		if (this.#requests >= REQUESTS_MAX)
			return reply(errorReplyFrame(ref, `more than ${REQUESTS_MAX} requests at a time`));
		this.#requests++;
		try {
			reply(replyFrame(ref, await handler(event, data)));
		} catch (error) {
			reply(errorReplyFrame(ref, messageOf(error)));
		} finally {
			this.#requests--;
		}
	}

	// Writing.

	#canWrite(): boolean {
		return (
			(this.#phase === 'open' || this.#phase === 'bursting') && this.#socket?.readyState === OPEN
		);
	}

	#write(payload: Payload): void {
		guarded(() => this.#socket!.send(payload), 'the socket refused a message');
	}

	/** Says where we were, if we were anywhere. Returns the topics for which there was no room. */
	#writeResume(): string[] {
		const sessionId = this.#session();
		if (sessionId === null || this.#positions.size === 0) return [];
		const room =
			(this.#options.resumeBytesMax ?? RESUME_BYTES_MAX) - resumeFrame(sessionId, '').length;
		const { json, left } = this.#positions.encode((topic) => this.#topics.isWanted(topic), room);
		this.#write(resumeFrame(sessionId, json));
		return left;
	}

	#flushQueue(): void {
		for (
			let next = this.#queue.peek();
			next !== undefined && this.#canWrite();
			next = this.#queue.peek()
		) {
			this.#env.log('flush ->', next);
			this.#write(next);
			this.#queue.shift();
		}
	}

	#flushSoon(): void {
		if (this.#flushDue || !(this.#topics.changed || this.#refused.length > 0)) return;
		this.#flushDue = true;
		queueMicrotask(() => {
			this.#flushDue = false;
			for (const denial of this.#refused.splice(0)) this.#deny(denial);
			if (this.#phase !== 'open' || !this.#canWrite()) return;
			this.#flushDrops();
			const asks = this.#topics.takeAsks();
			if (asks.length === 1) return this.#write(subscribeFrame(asks[0]!, ++this.#ref));
			for (const frame of subscribeBatchFrames(asks, () => ++this.#ref)) this.#write(frame);
		});
	}

	/**
	 * Gives up topics. Runs before anything the application sends: a server may subscribe us on a call,
	 * and an older unsubscribe that comes after it would undo that.
	 */
	#flushDrops(): void {
		if (this.#phase === 'open')
			for (const topic of this.#topics.takeDrops()) this.#write(unsubscribeFrame(topic));
	}

	// The session.

	#remember(sessionId: string): void {
		this.#sessionId = sessionId;
		try {
			this.#env.storage?.setItem(this.#place!.storageKey, sessionId);
		} catch {
			// A private window, or no room: then it lives in memory only.
		}
	}

	#session(): string | null {
		try {
			return this.#sessionId ?? this.#env.storage?.getItem(this.#place!.storageKey) ?? null;
		} catch {
			return this.#sessionId;
		}
	}
}

/** The error of those who wait for a connection that will not come. */
export class ConnectionClosedError extends Error {
	readonly code = 'CONNECTION_CLOSED';
	readonly failure: Failure | null;

	constructor(failure: Failure | null) {
		super('WebSocket connection permanently closed');
		this.name = 'ConnectionClosedError';
		this.failure = failure;
	}
}

const closedForGood = (failure: Failure | null): Error => new ConnectionClosedError(failure);

/** The message, or whatever there is instead of one. */
function messageOf(error: unknown): string {
	const message = (error as { message?: unknown } | null | undefined)?.message;
	return typeof message === 'string' && message !== '' ? message : String(error);
}

const agrees = (given: ConnectOptions, known: ConnectOptions): boolean =>
	Object.entries(given).every(
		([name, value]) => value === undefined || known[name as keyof ConnectOptions] === value
	);
