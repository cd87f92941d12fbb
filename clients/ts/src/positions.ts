import { utf8Length } from './frames.js';

/** The newest number seen per topic, in the order in which they moved; the least recent are forgotten. */
export class Positions {
	readonly #newest = new Map<string, number>();
	readonly #max: number;

	constructor(max: number) {
		this.#max = max;
	}

	get size(): number {
		return this.#newest.size;
	}

	/** Numbers only ever rise: a lower one changes nothing. */
	note(topic: string, seq: unknown): void {
		if (typeof seq !== 'number') return;
		const known = this.#newest.get(topic);
		if (known !== undefined && !(seq > known)) return;
		this.#newest.delete(topic);
		if (this.#newest.size >= this.#max)
			this.#newest.delete(this.#newest.keys().next().value as string);
		this.#newest.set(topic, seq);
	}

	/**
	 * The members of the resume frame as JSON, in at most `bytesMax` bytes. Topics that are `held` come
	 * first, then what moved last. Also the held topics that found no room.
	 */
	encode(held: (topic: string) => boolean, bytesMax: number): { json: string; left: string[] } {
		const topics = [...this.#newest.keys()].reverse();
		const members: string[] = [];
		const left: string[] = [];
		let bytes = 2;
		for (const wanted of [true, false]) {
			for (const topic of topics) {
				if (held(topic) !== wanted) continue;
				const member = `${JSON.stringify(topic)}:${this.#newest.get(topic)}`;
				const size = utf8Length(member) + 1;
				if (bytes + size <= bytesMax) {
					members.push(member);
					bytes += size;
				} else if (wanted) {
					left.push(topic);
				}
			}
		}
		return { json: `{${members.join()}}`, left };
	}
}
