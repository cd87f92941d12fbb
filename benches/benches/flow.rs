//! Time per operation of the engines of `flow`, with 10^2, 10^4 and 10^6 keys.

#![allow(missing_docs, reason = "written by the macros of criterion")]

mod flow_engines;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use flow_engines::{
    CoalesceCycle, DebouncePush, DedupClaim, DedupRepeat, Engine, IdempotencyHit, IdempotencyRun,
    LockHandOver, QueueDeep, QueueTask, SessionGet, SessionSet, ThrottleCycle, ThrottlePush,
};

fn measure<E: Engine>(criterion: &mut Criterion, name: &str) {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    for n in [100, 10_000, 1_000_000] {
        let mut engine = E::filled(n);
        group.bench_function(BenchmarkId::from_parameter(n), |bench| {
            bench.iter(|| engine.step());
        });
    }
    group.finish();
}

fn flow(criterion: &mut Criterion) {
    measure::<ThrottlePush>(criterion, "throttle_push");
    measure::<ThrottleCycle>(criterion, "throttle_cycle");
    measure::<DebouncePush>(criterion, "debounce_push");
    measure::<CoalesceCycle>(criterion, "coalesce_pop_put");
    measure::<QueueTask>(criterion, "queue_push_complete_start");
    measure::<QueueDeep>(criterion, "queue_one_deep_key");
    measure::<LockHandOver>(criterion, "lock_wait_hand_over");
    measure::<SessionGet>(criterion, "session_get");
    measure::<SessionSet>(criterion, "session_set_evict");
    measure::<DedupClaim>(criterion, "dedup_claim_evict");
    measure::<DedupRepeat>(criterion, "dedup_repeat");
    measure::<IdempotencyRun>(criterion, "idempotency_claim_complete_evict");
    measure::<IdempotencyHit>(criterion, "idempotency_hit");
}

criterion_group!(benches, flow);
criterion_main!(benches);
