//! The same as instruction counts, which do not depend on what else the machine does: a thousand
//! operations each.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

mod flow_engines;

use flow_engines::{
    CoalesceCycle, DebouncePush, DedupClaim, DedupRepeat, Engine, IdempotencyHit, IdempotencyRun,
    LockHandOver, QueueDeep, QueueTask, SessionGet, SessionSet, ThrottleCycle, ThrottlePush,
};
use gungraun::{library_benchmark, library_benchmark_group, main};

fn thousand<E: Engine>(mut engine: E) -> E {
    for _ in 0..1_000 {
        engine.step();
    }
    engine
}

macro_rules! measure {
    ($($name:ident: $engine:ident,)*) => { $(
        #[library_benchmark(setup = $engine::filled)]
        #[bench::hundred(100)]
        #[bench::ten_thousand(10_000)]
        #[bench::million(1_000_000)]
        fn $name(engine: $engine) -> $engine {
            thousand(engine)
        }
    )* };
}

measure! {
    throttle_push: ThrottlePush,
    throttle_cycle: ThrottleCycle,
    debounce_push: DebouncePush,
    coalesce_pop_put: CoalesceCycle,
    queue_push_complete_start: QueueTask,
    queue_one_deep_key: QueueDeep,
    lock_wait_hand_over: LockHandOver,
    session_get: SessionGet,
    session_set_evict: SessionSet,
    dedup_claim_evict: DedupClaim,
    dedup_repeat: DedupRepeat,
    idempotency_claim_complete_evict: IdempotencyRun,
    idempotency_hit: IdempotencyHit,
}

library_benchmark_group!(
    name = flow,
    benchmarks = [
        throttle_push,
        throttle_cycle,
        debounce_push,
        coalesce_pop_put,
        queue_push_complete_start,
        queue_one_deep_key,
        lock_wait_hand_over,
        session_get,
        session_set_evict,
        dedup_claim_evict,
        dedup_repeat,
        idempotency_claim_complete_evict,
        idempotency_hit,
    ]
);
main!(library_benchmark_groups = flow);
