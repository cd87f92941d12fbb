//! Bytes for each key, and that counting allocates nothing but tables.

#![allow(clippy::unwrap_used, reason = "tests")]

use millstream_core::{ConnId, Millis};
use millstream_ratelimit::{
    Decision, FixedWindow, Gcra, Keys, LimitKey, Limiter, Limits, State, TwoWindow,
};

#[test]
fn sizes_are_as_documented() {
    assert_eq!(size_of::<LimitKey>(), 16);
    assert_eq!(size_of::<State>(), 16);
    assert_eq!(size_of::<Decision>(), 32);
}

#[test]
fn bytes_for_each_key_are_as_documented() {
    let keys = Keys::new([1, 2]);
    for count in [100, 1_000, 12_288, 12_289, 100_000_u64] {
        let policy = FixedWindow::new(5, 1_000.0).unwrap();
        let mut limiter = Limiter::new(policy, Limits::default());
        let info = allocation_counter::measure(|| {
            for n in 0..count {
                let key = keys.conn(ConnId::from_u64(n));
                let _ = limiter.consume(key, Millis::ZERO, 1.0).unwrap();
            }
        });
        // A slot of 32 bytes, three quarters in use at most and three eighths at least; while the
        // table grows, the one that it leaves is there too: half as much again.
        let bytes = limiter.bytes() as u64;
        assert!(
            bytes >= count * 42 && bytes <= count * 128 + 1_024,
            "{count}: {bytes}"
        );
        assert!(
            info.bytes_max <= count * 128 + 1_024,
            "{count}: {}",
            info.bytes_max
        );
        assert!(
            info.bytes_current as u64 <= bytes,
            "{count}: nothing is hidden"
        );
        // A few more calls, and it has moved.
        for n in 0..count / 4 {
            let _ = limiter
                .consume(keys.text(&n.to_string()), Millis::ZERO, 1.0)
                .unwrap();
        }
        let (bytes, count) = (limiter.bytes() as u64, limiter.len() as u64);
        assert!(bytes <= count * 86 + 1_024, "{count}: {bytes}");
    }
}

#[test]
fn counting_allocates_nothing() {
    fn check<P: millstream_ratelimit::Policy>(policy: P) {
        let keys = Keys::new([1, 2]);
        let limits = Limits {
            counters_max: 500,
            bans_max: 50,
        };
        let mut limiter = Limiter::new(policy, limits);
        let mut round = |from: u64, millis: u64| {
            for n in from..from + 1_000 {
                let (now, key) = (Millis::from_millis(millis), keys.conn(ConnId::from_u64(n)));
                let _ = limiter.consume(key, now, 1.0).unwrap();
                let _ = limiter.consume(key, now, 9.0).unwrap();
                let _ = limiter.ban(key, now, Some(5.0));
                limiter.reset(key);
            }
        };
        round(0, 0);
        let info = allocation_counter::measure(|| (1..20).for_each(|n| round(n * 700, n * 3)));
        assert_eq!(info.count_total, 0);
    }
    check(
        FixedWindow::new(5, 100.0)
            .unwrap()
            .with_block(20.0)
            .unwrap(),
    );
    check(TwoWindow::new(5, 100.0).unwrap());
    check(Gcra::new(5, 100.0).unwrap());
}
