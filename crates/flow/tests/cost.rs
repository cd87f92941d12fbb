//! What entries take and what operations allocate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use millstream_core::{Millis, SeededRandom};
use millstream_flow::{
    Acquired, Attempt, Claim, Coalesce, CoalesceLimits, Debounce, Dedup, DedupLimits, Idempotency,
    IdempotencyConfig, IfBusy, KeyLock, LockLimits, Outcome, Queue, QueueLimits, SessionLimits,
    SessionStore, ShapeLimits, Throttle,
};

const N: u64 = 20_000;
const SECOND: Duration = Duration::from_secs(1);

/// Ten bytes each.
fn keys() -> Vec<String> {
    (0..N).map(|n| format!("key-{n:06}")).collect()
}

fn at(ms: u64) -> Millis {
    Millis::from_millis(ms)
}

/// Memory an engine keeps, per key: place, index and the text of the key.
fn bytes_each<E>(make: impl FnOnce(&[String]) -> E) -> u64 {
    let keys = keys();
    let mut engine = None;
    let info = measure(|| engine = Some(make(&keys)));
    drop(engine);
    u64::try_from(info.bytes_current).unwrap() / N
}

/// Text, index (32,768 slots of 5 bytes) and unused places of the last page.
const BESIDES: u64 = 10 + 14;

#[allow(clippy::too_many_lines, reason = "eight engines, one after the other")]
#[test]
fn entries_take_what_is_documented() {
    let value = Bytes::from_static(b"waiting");
    let throttle = bytes_each(|keys| {
        let mut engine = Throttle::new(SECOND, ShapeLimits::default());
        let mut out = Sink;
        for key in keys.iter().chain(keys) {
            engine
                .push(at(0), key.as_str(), value.clone(), &mut out)
                .unwrap();
        }
        engine
    });
    let debounce = bytes_each(|keys| {
        let mut engine = Debounce::new(SECOND, None, ShapeLimits::default());
        for key in keys {
            engine
                .push(at(0), key.as_str(), value.clone(), &mut Sink)
                .unwrap();
        }
        engine
    });
    let coalesce = bytes_each(|keys| {
        let mut engine = Coalesce::new(CoalesceLimits::default());
        for key in keys {
            engine.put(key, value.clone()).unwrap();
        }
        engine
    });
    let queue = bytes_each(|keys| {
        let mut engine = Queue::new(QueueLimits::default());
        for key in keys {
            engine.push(key, value.clone()).unwrap();
        }
        engine
    });
    let lock = bytes_each(|keys| {
        let mut engine = KeyLock::new(LockLimits::default());
        for key in keys {
            let _ = engine.acquire(at(0), key, Claim::default()).unwrap();
        }
        engine
    });
    let session = bytes_each(|keys| {
        let limits = SessionLimits {
            entries_max: 1 << 20,
            ..Default::default()
        };
        let mut engine = SessionStore::new(SECOND, limits);
        for key in keys {
            engine.set(at(0), key, value.clone()).unwrap();
        }
        engine
    });
    let dedup = bytes_each(|keys| {
        let limits = DedupLimits {
            entries_max: 1 << 20,
            ..Default::default()
        };
        let mut engine = Dedup::new(SECOND, limits, &mut SeededRandom::new(1));
        for key in keys {
            engine.claim(at(0), key).unwrap();
        }
        engine
    });
    let idempotency = bytes_each(|keys| {
        let config = IdempotencyConfig {
            entries_max: 1 << 20,
            ..Default::default()
        };
        let mut engine = Idempotency::<Bytes>::new(config);
        for key in keys {
            let _ = engine.claim(at(0), key, IfBusy::Wait).unwrap();
        }
        engine
    });
    let documented = [
        ("throttle", throttle, 80),
        ("debounce", debounce, 88),
        ("coalesce", coalesce, 56),
        ("queue", queue, 56 + 32 + 32),
        ("lock", lock, 80),
        ("session", session, 72),
        // No text.
        ("dedup", dedup, 32 - 10),
        ("idempotency", idempotency, 64),
    ];
    for (engine, bytes, places) in documented {
        let range = places + 5..=places + BESIDES;
        assert!(
            range.contains(&bytes),
            "{engine}: {bytes} bytes, expected {range:?}"
        );
    }
}

struct Sink;

impl<T> Extend<T> for Sink {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(drop);
    }
}

/// Runs a round once to grow what grows, and counts in the second.
fn steady(mut round: impl FnMut(u64)) -> AllocationInfo {
    round(0);
    measure(|| round(1))
}

#[test]
fn what_is_known_costs_no_allocation() {
    let keys: Vec<String> = keys().into_iter().take(1_000).collect();
    let value = Bytes::from_static(b"waiting");

    let mut throttle = Throttle::new(SECOND, ShapeLimits::default());
    let mut debounce = Debounce::new(SECOND, None, ShapeLimits::default());
    let mut coalesce = Coalesce::new(CoalesceLimits::default());
    let mut sessions = SessionStore::new(SECOND, SessionLimits::default());
    let info = steady(|round| {
        for key in &keys {
            for _ in 0..2 {
                throttle
                    .push(at(round), key.as_str(), value.clone(), &mut Sink)
                    .unwrap();
            }
            debounce
                .push(at(round), key.as_str(), value.clone(), &mut Sink)
                .unwrap();
            coalesce.put(key, value.clone()).unwrap();
            sessions.set(at(round), key, value.clone()).unwrap();
            assert!(sessions.get(at(round), key).unwrap().is_some());
        }
    });
    assert_eq!(info.count_total, 0);
    throttle.handle_timeout(at(2_000), &mut Sink);
    let info = measure(|| throttle.handle_timeout(at(4_000), &mut Sink));
    assert_eq!(info.count_total, 0);
}

#[test]
fn ids_that_come_and_go_cost_no_allocation() {
    let limits = DedupLimits {
        entries_max: 500,
        ..Default::default()
    };
    let mut seen = Dedup::new(SECOND, limits, &mut SeededRandom::new(1));
    let keys = keys();
    // The index grows once more for the gaps that removed ids leave, and then no more.
    let (warm, counted) = keys.split_at(keys.len() / 2);
    assert!(warm.iter().all(|key| seen.claim(at(0), key).unwrap()));
    let info = measure(|| assert!(counted.iter().all(|key| seen.claim(at(0), key).unwrap())));
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_busy_key_costs_no_allocation_and_a_new_one_its_text() {
    let mut queue = Queue::new(QueueLimits::default());
    queue.push("busy", 0).unwrap();
    let (first, _) = queue.poll_ready().unwrap();
    let info = steady(|_| {
        for n in 0..100 {
            queue.push("busy", n).unwrap();
        }
        queue.clear("busy", &mut Sink);
    });
    assert_eq!(info.count_total, 0);
    assert!(queue.complete(first, Outcome::Done));
    let info = steady(|_| {
        queue.push("new", 0).unwrap();
        let (ticket, _) = queue.poll_ready().unwrap();
        assert!(queue.complete(ticket, Outcome::Done));
    });
    assert_eq!(info.count_total, 1);

    let mut lock = KeyLock::new(LockLimits::default());
    let info = steady(|_| {
        let Ok(Acquired::Granted(guard)) = lock.acquire(at(0), "new", Claim::default()) else {
            panic!("it is free")
        };
        let _ = lock.acquire(at(0), "new", Claim::default()).unwrap();
        lock.clear(&mut Sink);
        assert!(lock.release(at(0), guard, &mut Sink));
    });
    assert_eq!(info.count_total, 1);

    let mut slots = Idempotency::<Bytes>::default();
    let info = steady(|_| {
        let Ok(Attempt::Run(run)) = slots.claim(at(0), "new", IfBusy::Wait) else {
            panic!("it is free")
        };
        let result = Bytes::from_static(b"result");
        slots.complete(at(0), run, result, &mut Sink).unwrap();
        assert!(slots.forget("new").is_some());
    });
    assert_eq!(info.count_total, 1);
}
