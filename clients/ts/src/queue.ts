/** What a WebSocket sends: text, or bytes. */
export type Payload = string | ArrayBuffer | ArrayBufferView;

/** Messages that wait for a connection, oldest first. The oldest are dropped where there is no room. */
export class SendQueue {
	/** Messages dropped so far. */
	dropped = 0;
	#entries: Payload[] = [];
	/** Where the oldest message stands: removing it costs nothing. */
	#head = 0;
	#bytes = 0;
	#max: number;
	#bytesMax: number;

	constructor(max: number, bytesMax: number) {
		this.#max = max;
		this.#bytesMax = bytesMax;
	}

	get length(): number {
		return this.#entries.length - this.#head;
	}

	get bytes(): number {
		return this.#bytes;
	}

	/** Other limits, which count for what comes from now on. */
	limit(max: number, bytesMax: number): void {
		this.#max = max;
		this.#bytesMax = bytesMax;
	}

	/** Returns how many messages were dropped for it; itself, if it is larger than all room. */
	push(payload: Payload): number {
		const size = sizeOf(payload);
		const before = this.dropped;
		if (size > this.#bytesMax || this.#max < 1) {
			this.dropped++;
			return 1;
		}
		while (this.length >= this.#max || this.#bytes + size > this.#bytesMax) {
			this.shift();
			this.dropped++;
		}
		this.#entries.push(payload);
		this.#bytes += size;
		return this.dropped - before;
	}

	peek(): Payload | undefined {
		return this.#entries[this.#head];
	}

	shift(): void {
		const payload = this.#entries[this.#head];
		if (payload === undefined) return;
		this.#bytes -= sizeOf(payload);
		this.#entries[this.#head++] = '';
		if (this.#head * 2 < this.#entries.length) return;
		this.#entries = this.#entries.slice(this.#head);
		this.#head = 0;
	}

	clear(): void {
		this.dropped += this.length;
		this.#entries = [];
		this.#head = 0;
		this.#bytes = 0;
	}
}

/** Code units for text: a bound needs the order of magnitude, not a walk over the text. */
const sizeOf = (payload: Payload): number =>
	typeof payload === 'string' ? payload.length : payload.byteLength;

/** A value of the application as the wire carries it: bytes as they are, anything else as JSON. */
export function encode(value: unknown): Payload {
	if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return value;
	return JSON.stringify(value) ?? 'null';
}
