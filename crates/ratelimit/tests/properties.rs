//! The engines against the naive model, and what every policy promises.

#![allow(clippy::unwrap_used, reason = "tests")]

use millstream_core::{ConnId, Millis};
use millstream_ratelimit::{FixedWindow, Gcra, Keys, Limiter, Limits, NEVER, Policy, TwoWindow};
use proptest::prelude::*;

#[path = "support/model.rs"]
mod model;
#[path = "support/rig.rs"]
mod rig;

/// Calls of one key: how long after the one before, and what they cost.
fn calls() -> impl Strategy<Value = Vec<(u64, f64)>> {
    let gap = prop_oneof![3 => 0_u64..20, 2 => 0_u64..400, 1 => 0_u64..5_000];
    let cost = prop_oneof![6 => Just(1.0), 1 => Just(0.0), 2 => (1_u32..9).prop_map(f64::from)];
    prop::collection::vec((gap, cost), 1..80)
}

/// After each refusal: retrying exactly then succeeds, a millisecond earlier fails. Time starts at
/// an instant of today, where floats are coarser.
fn waits_are_exact<P: Policy>(policy: &P, calls: &[(u64, f64)]) {
    let mut now = 1_795_000_000_000;
    let mut state = policy.fresh(now as f64);
    for (gap, cost) in calls {
        now += gap;
        let decision = policy.take(&mut state, now as f64, *cost);
        if decision.allowed {
            assert_eq!(decision.retry_ms, 0);
            continue;
        }
        let pass = |wait_ms: u64| {
            let mut state = state;
            policy
                .take(&mut state, (now + wait_ms) as f64, *cost)
                .allowed
        };
        assert!(decision.retry_ms > 0);
        if decision.retry_ms == NEVER {
            assert!(!pass(1 << 40));
        } else {
            assert!(!pass(decision.retry_ms - 1), "{decision:?}");
            assert!(pass(decision.retry_ms), "{decision:?}");
        }
    }
}

/// The instants and costs of the calls that passed.
fn passed<P: Policy>(policy: &P, calls: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let (mut now, mut state) = (1_000, policy.fresh(1_000.0));
    let mut passed = Vec::new();
    for (gap, cost) in calls {
        now += gap;
        if policy.take(&mut state, now as f64, *cost).allowed {
            passed.push((now, *cost));
        }
    }
    passed
}

proptest! {
    #[test]
    fn the_engines_do_what_the_model_does(bytes in prop::collection::vec(any::<u8>(), 4..1_200)) {
        rig::Rig::play(&bytes);
    }

    #[test]
    fn waits(calls in calls(), points in 1_u32..9, interval in 1_u32..9_000) {
        let interval_ms = f64::from(interval) / 4.0;
        waits_are_exact(&FixedWindow::new(points.into(), interval_ms).unwrap(), &calls);
        waits_are_exact(&TwoWindow::new(points, interval_ms).unwrap(), &calls);
        waits_are_exact(&Gcra::new(points, interval_ms).unwrap(), &calls);
        waits_are_exact(&Gcra::new(points, interval_ms).unwrap().with_burst(3).unwrap(), &calls);
    }

    /// Within one window no more than the points pass.
    #[test]
    fn a_window_has_so_many_points(calls in calls(), points in 1_u64..9, interval in 1_u64..2_000) {
        let policy = FixedWindow::new(points, interval as f64).unwrap();
        let (mut now, mut state) = (1_000, policy.fresh(1_000.0));
        let (mut end_ms, mut sum) = (0.0, 0.0);
        for (gap, cost) in calls {
            now += gap;
            let decision = policy.take(&mut state, now as f64, cost);
            prop_assert!(decision.reset_ms > 0.0 && decision.reset_ms <= interval as f64);
            if now as f64 + decision.reset_ms != end_ms {
                prop_assert!(now as f64 >= end_ms, "a window ends early");
                (end_ms, sum) = (now as f64 + decision.reset_ms, 0.0);
            }
            sum += if decision.allowed { cost } else { 0.0 };
            prop_assert!(sum <= points as f64);
            prop_assert_eq!(decision.remaining, points as f64 - sum);
        }
    }

    /// Within any time t no more than a burst and t's share pass.
    #[test]
    fn a_rate_is_a_rate(calls in calls(), points in 1_u32..9, interval in 1_u32..2_000) {
        let policy = Gcra::new(points, interval.into()).unwrap();
        let passed = passed(&policy, &calls);
        for (place, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0.0;
            for (now, cost) in &passed[place..] {
                sum += cost;
                let share = (now - from) as f64 * f64::from(points) / f64::from(interval);
                prop_assert!(sum <= f64::from(points) + share + 1e-6);
            }
        }
    }

    /// A cost of k passes when k calls would.
    #[test]
    fn two_windows_take_sums(calls in calls(), points in 1_u32..9, k in 1_u32..9) {
        let policy = TwoWindow::new(points, 500.0).unwrap();
        let (mut now, mut state) = (0, policy.fresh(0.0));
        for (gap, _) in calls {
            now += gap;
            let mut one_by_one = state;
            let all = (0..k).all(|_| policy.take(&mut one_by_one, now as f64, 1.0).allowed);
            let mut at_once = state;
            let decision = policy.take(&mut at_once, now as f64, k.into());
            prop_assert_eq!(decision.allowed, all);
            if all {
                prop_assert_eq!(at_once, one_by_one);
            }
            let _ = policy.take(&mut state, now as f64, 1.0);
        }
    }

    /// What is spent may be forgotten: whoever comes next is told the same.
    #[test]
    fn what_is_spent_is_as_good_as_fresh(
        calls in calls(),
        points in 1_u32..9,
        later in 0_u64..9_000,
    ) {
        fn check<P: Policy>(policy: &P, calls: &[(u64, f64)], later: u64) {
            let (mut now, mut state) = (0, policy.fresh(0.0));
            for (gap, cost) in calls {
                now += gap;
                let _ = policy.take(&mut state, now as f64, *cost);
            }
            let now = (now + later) as f64;
            if policy.is_spent(state, now) {
                let mut fresh = policy.fresh(now);
                let (a, b) = (policy.take(&mut state, now, 1.0), policy.take(&mut fresh, now, 1.0));
                assert_eq!(a, b);
            }
        }
        check(&FixedWindow::new(points.into(), 700.0).unwrap(), &calls, later);
        check(&TwoWindow::new(points, 700.0).unwrap(), &calls, later);
        check(&Gcra::new(points, 700.0).unwrap(), &calls, later);
    }
}

#[test]
fn hostile_times_and_numbers() {
    let keys = Keys::new([1, 2]);
    let key = keys.conn(ConnId::from_u64(1));
    fn play<P: Policy>(policy: P, key: millstream_ratelimit::LimitKey) {
        let mut limiter = Limiter::new(policy, Limits::default());
        for cost in [f64::NAN, f64::INFINITY, -1.0, -f64::MIN_POSITIVE] {
            assert!(limiter.consume(key, Millis::MAX, cost).is_err());
        }
        assert!(limiter.is_empty());
        for now in [0, u64::MAX, 0, 1 << 60, u64::MAX] {
            for cost in [0.0, 1.0, f64::MAX, f64::MIN_POSITIVE] {
                let decision = limiter
                    .consume(key, Millis::from_millis(now), cost)
                    .unwrap();
                assert!(decision.remaining >= 0.0 && !decision.reset_ms.is_nan());
                assert_eq!(decision.allowed, decision.retry_ms == 0);
                assert!(cost < f64::MAX || decision.retry_ms == NEVER);
            }
        }
        // The clock stood still after the largest time: the limit still holds.
        let passed =
            (0..1_000).filter(|_| limiter.consume(key, Millis::ZERO, 1.0).unwrap().allowed);
        assert!(passed.count() < 10);
    }
    play(FixedWindow::new(5, 100.0).unwrap(), key);
    play(TwoWindow::new(5, 100.0).unwrap(), key);
    play(Gcra::new(5, 100.0).unwrap(), key);
    assert!(FixedWindow::new(0, 1.0).is_err());
    assert!(FixedWindow::new(1, f64::NAN).is_err());
    assert!(
        FixedWindow::new(1, 1.0)
            .unwrap()
            .with_block(f64::INFINITY)
            .is_err()
    );
    assert!(TwoWindow::new(1, -1.0).is_err());
    assert!(Gcra::new(u32::MAX, 1.0).is_err());
    assert!(Gcra::new(1, 1.0).unwrap().with_burst(0).is_err());
}

#[test]
fn bans_of_all_lengths() {
    let (keys, now) = (Keys::new([1, 2]), Millis::ZERO);
    let key = keys.text("x");
    let limits = Limits {
        counters_max: 0,
        bans_max: 2,
    };
    let mut limiter = Limiter::new(FixedWindow::new(5, 100.0).unwrap(), limits);
    assert!(limiter.ban(key, now, Some(f64::NAN)).is_err());
    assert!(limiter.ban(key, now, Some(-1.0)).is_err());
    limiter.ban(key, now, Some(0.0)).unwrap();
    assert!(limiter.consume(key, now, 1.0).unwrap().allowed);
    // For good, and back.
    limiter.ban(key, now, Some(f64::INFINITY)).unwrap();
    let refused = limiter.consume(key, Millis::MAX, 1.0).unwrap();
    assert_eq!((refused.reset_ms, refused.retry_ms), (f64::INFINITY, NEVER));
    limiter.unban(key);
    assert!(limiter.consume(key, now, 1.0).unwrap().allowed);
    // A ban on a key that was never seen leaves nothing behind, and room for two is room for two.
    let mut limiter = Limiter::new(FixedWindow::new(5, 100.0).unwrap(), limits);
    limiter.ban(key, now, Some(50.0)).unwrap();
    limiter.ban(keys.text("y"), now, Some(50.0)).unwrap();
    assert!(limiter.ban(keys.text("z"), now, Some(50.0)).is_err());
    let fresh = limiter.consume(key, Millis::from_millis(50), 1.0).unwrap();
    assert_eq!((fresh.allowed, fresh.remaining), (true, 4.0));
    // What is over makes room.
    limiter
        .ban(keys.text("z"), Millis::from_millis(50), Some(50.0))
        .unwrap();
}

#[test]
fn a_flood_washes_neither_bans_nor_busy_keys_out() {
    let keys = Keys::new([1, 2]);
    let policy = FixedWindow::new(1_000, 60_000.0).unwrap();
    let limits = Limits {
        counters_max: 1_000,
        bans_max: 10,
    };
    let mut limiter = Limiter::new(policy, limits);
    let (banned, busy) = (keys.text("banned"), keys.text("busy"));
    limiter.ban(banned, Millis::ZERO, None).unwrap();
    for n in 0..100_000_u64 {
        assert!(
            limiter
                .consume(keys.conn(ConnId::from_u64(n)), Millis::ZERO, 1.0)
                .unwrap()
                .allowed
        );
        if n % 200 == 0 {
            let left = limiter.consume(busy, Millis::ZERO, 1.0).unwrap().remaining;
            assert_eq!(left, 999.0 - (n / 200) as f64);
        }
    }
    assert!(!limiter.consume(banned, Millis::ZERO, 1.0).unwrap().allowed);
    assert_eq!(limiter.len(), 1_000);
    assert_eq!(limiter.stats().evicted, 99_001);
}
