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

#[library_benchmark(setup = ThrottlePush::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn throttle_push(engine: ThrottlePush) -> ThrottlePush {
    thousand(engine)
}

#[library_benchmark(setup = ThrottleCycle::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn throttle_cycle(engine: ThrottleCycle) -> ThrottleCycle {
    thousand(engine)
}

#[library_benchmark(setup = DebouncePush::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn debounce_push(engine: DebouncePush) -> DebouncePush {
    thousand(engine)
}

#[library_benchmark(setup = CoalesceCycle::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn coalesce_pop_put(engine: CoalesceCycle) -> CoalesceCycle {
    thousand(engine)
}

#[library_benchmark(setup = QueueTask::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn queue_push_complete_start(engine: QueueTask) -> QueueTask {
    thousand(engine)
}

#[library_benchmark(setup = QueueDeep::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn queue_one_deep_key(engine: QueueDeep) -> QueueDeep {
    thousand(engine)
}

#[library_benchmark(setup = LockHandOver::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn lock_wait_hand_over(engine: LockHandOver) -> LockHandOver {
    thousand(engine)
}

#[library_benchmark(setup = SessionGet::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn session_get(engine: SessionGet) -> SessionGet {
    thousand(engine)
}

#[library_benchmark(setup = SessionSet::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn session_set_evict(engine: SessionSet) -> SessionSet {
    thousand(engine)
}

#[library_benchmark(setup = DedupClaim::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn dedup_claim_evict(engine: DedupClaim) -> DedupClaim {
    thousand(engine)
}

#[library_benchmark(setup = DedupRepeat::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn dedup_repeat(engine: DedupRepeat) -> DedupRepeat {
    thousand(engine)
}

#[library_benchmark(setup = IdempotencyRun::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn idempotency_claim_complete_evict(engine: IdempotencyRun) -> IdempotencyRun {
    thousand(engine)
}

#[library_benchmark(setup = IdempotencyHit::filled)]
#[bench::hundred(100)]
#[bench::ten_thousand(10_000)]
#[bench::million(1_000_000)]
fn idempotency_hit(engine: IdempotencyHit) -> IdempotencyHit {
    thousand(engine)
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
