//! Calls from the text of their frame to their reply, without a socket.

mod live_rig;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use live_rig::{ADD, ECHO, PUB, Rig};
use millstream_wire::recognise_call;

fn calls(criterion: &mut Criterion) {
    let mut rig = Rig::new();
    let mut group = criterion.benchmark_group("live");
    group.bench_function("recognise hundred bytes", |bench| {
        bench.iter(|| recognise_call(black_box(ECHO)).is_some());
    });
    for (name, frame) in [("echo", ECHO), ("publish", PUB), ("add", ADD)] {
        group.bench_function(format!("call {name}, hundred bytes"), |bench| {
            let mut out = Vec::with_capacity(1_024);
            bench.iter(|| {
                out.clear();
                rig.call(black_box(frame), &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
