//! The timer wheel against a list.
#![no_main]

use core::time::Duration;
use std::collections::HashMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use millstream_core::{Millis, TimerId, Wheel};

#[derive(Arbitrary, Debug)]
struct Case {
    granularity: u16,
    start: u32,
    ops: Vec<Op>,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Insert {
        mantissa: u16,
        shift: u8,
    },
    InsertPast(u16),
    Cancel(u8),
    Advance {
        mantissa: u16,
        shift: u8,
    },
    /// To where the wheel says something is due.
    Follow,
}

fuzz_target!(|case: Case| {
    let tick = u64::from(case.granularity).max(1);
    let mut wheel = Wheel::new(Duration::from_millis(u64::from(case.granularity)));
    let mut model: HashMap<TimerId, (u64, usize)> = HashMap::new();
    let mut ids = Vec::new();
    let mut now = u64::from(case.start);
    assert_eq!(wheel.pop_due(Millis::from_millis(now)), None);
    for (number, op) in case.ops.iter().enumerate() {
        match op {
            Op::Insert { mantissa, shift } => {
                insert(
                    &mut wheel,
                    &mut model,
                    &mut ids,
                    now + far(*mantissa, *shift),
                    number,
                );
            }
            Op::InsertPast(back) => {
                let at = now.saturating_sub(u64::from(*back));
                insert(&mut wheel, &mut model, &mut ids, at, number);
            }
            Op::Cancel(which) => {
                if let Some(id) = ids.get(usize::from(*which)) {
                    assert_eq!(
                        wheel.cancel(*id),
                        model.remove(id).map(|(_, number)| number)
                    );
                }
            }
            Op::Advance { mantissa, shift } => {
                now += far(*mantissa, *shift);
                fire(&mut wheel, &mut model, now, tick);
            }
            Op::Follow => {
                if let Some(next) = wheel.next_deadline() {
                    now = now.max(next.as_millis());
                    fire(&mut wheel, &mut model, now, tick);
                }
            }
        }
        assert_eq!(wheel.len(), model.len());
        let earliest = model.values().map(|(at, _)| at.div_ceil(tick) * tick).min();
        match (wheel.next_deadline(), earliest) {
            (None, None) => {}
            (Some(next), Some(earliest)) => assert!(next.as_millis() <= earliest.max(now)),
            other => panic!("{other:?}"),
        }
    }
});

fn far(mantissa: u16, shift: u8) -> u64 {
    u64::from(mantissa) << (shift % 32)
}

fn insert(
    wheel: &mut Wheel<usize>,
    model: &mut HashMap<TimerId, (u64, usize)>,
    ids: &mut Vec<TimerId>,
    at: u64,
    number: usize,
) {
    let id = wheel.insert(Millis::from_millis(at), number);
    assert!(
        model.insert(id, (at, number)).is_none(),
        "two timers of one name"
    );
    ids.push(id);
}

fn fire(wheel: &mut Wheel<usize>, model: &mut HashMap<TimerId, (u64, usize)>, now: u64, tick: u64) {
    while let Some(number) = wheel.pop_due(Millis::from_millis(now)) {
        let id = *model
            .iter()
            .find(|(_, entry)| entry.1 == number)
            .expect("a live timer")
            .0;
        let (at, _) = model.remove(&id).expect("found above");
        assert!(at <= now, "early");
    }
    assert!(
        model.values().all(|(at, _)| at.div_ceil(tick) * tick > now),
        "late"
    );
}
