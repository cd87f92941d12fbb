// Random merge cases from a seed. Small pools of keys and values, so that they collide.

export function generator(seed) {
    let state = seed >>> 0 || 1;
    const next = () => {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        return (state >>>= 0);
    };
    const below = (n) => next() % n;
    const pick = (list) => list[below(list.length)];
    const chance = (percent) => below(100) < percent;
    const many = (max, make) => Array.from({ length: below(max + 1) }, make);

    const KEYS = [1, 2, 3, 4, 5, 6, '1', '2', 'a', 'b', 'é\u2028"\\', '', 0, -1.5, 1e21, null, true, false];
    const PLAIN = [null, 0, 1, 2, '', 'x', '1', true, false, 12.25, [], {}, [1], { a: 1 }, [[{ constructor: 1 }]]];
    const key = () => (chance(80) ? pick([1, 2, 3, 4, 5, 6]) : chance(92) ? pick(KEYS) : pick([{ a: 1 }, [1], {}]));

    function item(field, strange) {
        if (chance(strange)) return pick(PLAIN.filter((value) => value !== null));
        const made = {};
        if (chance(10)) made.t = below(5);
        if (chance(92)) made[field] = key();
        made.n = below(1000);
        if (chance(5)) made[pick(['constructor', 'prototype', 'id', 'key', 'sku'])] = below(9);
        if (chance(3)) Object.defineProperty(made, '__proto__', { value: { x: 1 }, enumerable: true });
        if (chance(5)) made.deep = { [field]: below(4), list: [{ [field]: 1 }], prototype: 1 };
        return made;
    }

    function options() {
        const made = { merge: pick(['crud', 'crud', 'crud', 'presence', 'cursor', 'latest', 'set']) };
        if (chance(60)) made.key = pick(['id', 'id', 'sku', 'key']);
        if (chance(50)) made.prepend = chance(60);
        if (chance(60)) made.max = below(8);
        return made;
    }

    const EVENTS = {
        crud: ['created', 'created', 'created', 'updated', 'updated', 'deleted', 'deleted'],
        presence: ['join', 'join', 'join', 'leave', 'leave'],
        cursor: ['update', 'update', 'update', 'remove', 'remove'],
        latest: ['push', 'created', 'x'],
        set: ['set', 'set', 'x']
    };
    const OTHERS = ['set', 'refreshed', 'refreshed', 'join', 'leave', 'update', 'remove', 'updated', 'deleted',
        'created', 'noop', '', 'Created', 'bulk'];

    const list = (field, length) => many(length, () => item(field, 6));
    const field = (opts) => (['presence', 'cursor'].includes(opts.merge) ? 'key' : opts.key || 'id');

    function event(opts, nulls) {
        const keyed = ['crud', 'presence', 'cursor'].includes(opts.merge);
        const name = chance(88) ? pick(EVENTS[opts.merge]) : pick(OTHERS);
        let data;
        if (name === 'refreshed' || (name === 'set' && keyed)) {
            data = chance(80) ? list(field(opts), 6) : pick(PLAIN);
        } else if (keyed) {
            data = nulls && chance(2) ? null : item(field(opts), 4);
        } else {
            data = chance(60) ? pick(PLAIN) : item(field(opts), 4);
        }
        return { event: name, data };
    }

    /** An event of the server. One whose key is `null` confirms every change without a key. */
    function named(opts) {
        for (;;) {
            const made = event(opts, false);
            if (made.data?.[field(opts)] !== null) return made;
        }
    }

    /** An event that changes something: the client also records a `set` to what was there. */
    function told(opts) {
        for (;;) {
            const made = event(opts, false);
            if (opts.merge !== 'set' || (made.data !== null && typeof made.data === 'object')) return made;
        }
    }

    function change(opts) {
        for (;;) {
            const made = event(opts, false);
            if (opts.merge === 'set' || !['set', 'refreshed'].includes(made.event)) return made;
        }
    }

    function start(name) {
        const opts = options();
        const initial = chance(85) ? list(field(opts), 8) : pick(PLAIN);
        return { name, options: opts, initial };
    }

    const same = (a, b) => a === b && (a === null || typeof a !== 'object');

    return {
        live: (name) => {
            const made = start(name);
            return { ...made, events: many(14, () => event(made.options, true)) };
        },
        // No null on keyed lists here, which breaks the client for good, and no frame that ends
        // with the value it had already, which it does not show.
        frames: (name) => {
            const made = start(name);
            const frames = many(6, () => {
                const events = [event(made.options, false), ...many(5, () => event(made.options, false))];
                const last = events.at(-1);
                while (made.options.merge === 'set' && events.length > 1 && same(last.data, events.at(-2).data)) {
                    last.data = pick(PLAIN);
                }
                return events;
            });
            return { ...made, frames };
        },
        // Replies come while no change is in flight, and no change replaces a whole list: what the
        // client does otherwise is a defect.
        extended: (name) => {
            const made = start(name);
            const open = [];
            let count = 0;
            const steps = many(14, () => {
                if (open.length > 0 && chance(35)) {
                    return { settle: open.splice(below(open.length), 1)[0], ok: chance(60) };
                }
                if (chance(30)) {
                    const id = ++count;
                    open.push(id);
                    return { start: change(made.options), id };
                }
                if (open.length === 0 && chance(20)) return { reply: reply(made.options) };
                if (open.length === 0 && chance(10)) return { page: page(made.options) };
                return named(made.options);
            });
            return { ...made, events: steps };
        },
        history: (name) => {
            const made = start(name);
            const steps = many(20, () => {
                if (chance(35)) return { [pick(['undo', 'undo', 'redo'])]: true };
                if (chance(8)) return { [pick(['pause', 'resume'])]: true };
                if (chance(8)) return { reply: { data: list(field(made.options), 6) } };
                if (chance(5)) return { page: page(made.options) };
                return told(made.options);
            });
            return { ...made, events: [{ history: pick([1, 2, 3, 50, 50]) }, ...steps] };
        }
    };

    function page(opts) {
        return chance(90) ? list(field(opts), 4) : pick(PLAIN);
    }

    function reply(opts) {
        const said = {};
        if (chance(10)) said.max = below(6);
        if (chance(10)) said.prepend = chance(50);
        return { ...said, ...loaded(opts) };
    }

    function loaded(opts) {
        const kind = below(5);
        if (kind === 0) return { data: [], unchanged: true };
        if (kind === 1) {
            const changed = list(field(opts), 5).map((row) =>
                row && typeof row === 'object' && !Array.isArray(row) && chance(30)
                    ? { ...row, _deleted: pick([true, 1, 'x', 0]) } : row);
            return { data: changed, delta: true };
        }
        if (kind === 2) {
            const missed = many(5, () => ({ ...event(opts, false), seq: below(100) }));
            return { data: missed, replay: true };
        }
        if (kind === 3) return { data: list(field(opts), 6), [pick(['channel', 'derived'])]: true };
        return { data: chance(80) ? list(field(opts), 6) : pick(PLAIN) };
    }
}
