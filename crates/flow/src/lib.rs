//! Throttle, debounce, coalesce, ordered queues, keyed locks, sessions and idempotency slots.
