//! Slab, wheel, fifo and map against models too simple to be wrong.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use core::time::Duration;
use std::collections::HashMap;

use millstream_core::{
    BoundedMap, DeadlineFifo, Evict, Inserted, Key, Millis, Slab, TimerId, Wheel,
};
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
enum SlabOp {
    Insert(u32),
    Remove(Index),
    Change(Index, u32),
}

fn slab_op() -> impl Strategy<Value = SlabOp> {
    prop_oneof![
        3 => any::<u32>().prop_map(SlabOp::Insert),
        2 => any::<Index>().prop_map(SlabOp::Remove),
        1 => (any::<Index>(), any::<u32>()).prop_map(|(key, value)| SlabOp::Change(key, value)),
    ]
}

#[derive(Clone, Debug)]
enum TimerOp {
    Insert(u64),
    Cancel(Index),
    Advance(u64),
    /// To where the wheel says something is due.
    Follow,
}

fn distance() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_u64, 0..100_000_u64, 0..10_000_000_000_u64]
}

fn timer_op() -> impl Strategy<Value = TimerOp> {
    prop_oneof![
        4 => distance().prop_map(TimerOp::Insert),
        2 => any::<Index>().prop_map(TimerOp::Cancel),
        2 => distance().prop_map(TimerOp::Advance),
        2 => Just(TimerOp::Follow),
    ]
}

#[derive(Clone, Debug)]
enum MapOp {
    Insert(u8, u32),
    Get(u8),
    Touch(u8),
    Remove(u8),
    PopOldest,
    Clear,
}

fn map_op() -> impl Strategy<Value = MapOp> {
    let key = 0..12_u8;
    prop_oneof![
        60 => (key.clone(), any::<u32>()).prop_map(|(key, value)| MapOp::Insert(key, value)),
        20 => key.clone().prop_map(MapOp::Get),
        20 => key.clone().prop_map(MapOp::Touch),
        20 => key.prop_map(MapOp::Remove),
        5 => Just(MapOp::PopOldest),
        1 => Just(MapOp::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn slab(ops in proptest::collection::vec(slab_op(), 0..200), limit in 0..40_usize) {
        let mut slab = Slab::with_limit(limit);
        let mut model: HashMap<Key, u32> = HashMap::new();
        let mut keys: Vec<Key> = Vec::new();
        for op in ops {
            match op {
                SlabOp::Insert(value) => match slab.insert(value) {
                    Ok(key) => {
                        prop_assert!(model.len() < limit);
                        prop_assert!(model.insert(key, value).is_none());
                        keys.push(key);
                    }
                    Err(_) => prop_assert_eq!(model.len(), limit),
                },
                SlabOp::Remove(key) if !keys.is_empty() => {
                    let key = *key.get(&keys);
                    prop_assert_eq!(slab.remove(key), model.remove(&key));
                }
                SlabOp::Change(key, value) if !keys.is_empty() => {
                    let key = *key.get(&keys);
                    if let Some(place) = slab.get_mut(key) { *place = value }
                    if let Some(place) = model.get_mut(&key) { *place = value }
                }
                _ => {}
            }
            prop_assert_eq!(slab.len(), model.len());
            prop_assert_eq!(slab.is_full(), model.len() == limit);
        }
        for key in &keys {
            prop_assert_eq!(slab.get(*key), model.get(key));
            prop_assert_eq!(slab.contains(*key), model.contains_key(key));
        }
        let all: HashMap<Key, u32> = slab.iter().map(|(key, value)| (key, *value)).collect();
        prop_assert_eq!(all, model);
    }

    #[test]
    fn wheel(
        ops in proptest::collection::vec(timer_op(), 0..200),
        start in prop_oneof![Just(0_u64), 0..1_u64 << 50],
        granularity in prop_oneof![Just(1_u64), Just(10), Just(100), 1..5_000_u64],
    ) {
        let mut wheel = Wheel::new(Duration::from_millis(granularity));
        let mut model: HashMap<TimerId, (u64, usize)> = HashMap::new();
        let mut ids = Vec::new();
        let mut now = start;
        prop_assert_eq!(wheel.pop_due(Millis::from_millis(now)), None);
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                TimerOp::Insert(distance) => {
                    // Some lie in the past.
                    let at = (now + distance).saturating_sub(50);
                    let id = wheel.insert(Millis::from_millis(at), number);
                    prop_assert!(model.insert(id, (at, number)).is_none());
                    ids.push(id);
                    continue;
                }
                TimerOp::Cancel(id) if !ids.is_empty() => {
                    let id = *id.get(&ids);
                    prop_assert_eq!(wheel.cancel(id), model.remove(&id).map(|(_, number)| number));
                    continue;
                }
                TimerOp::Advance(distance) => now += distance,
                TimerOp::Follow => if let Some(next) = wheel.next_deadline() {
                    now = now.max(next.as_millis());
                },
                TimerOp::Cancel(_) => {}
            }
            while let Some(number) = wheel.pop_due(Millis::from_millis(now)) {
                let (id, at) = model.iter().find(|(_, entry)| entry.1 == number)
                    .map(|(id, entry)| (*id, entry.0)).unwrap();
                prop_assert!(at <= now, "timer for {} fired at {}", at, now);
                model.remove(&id);
            }
            // Late by less than one tick.
            let late = model.values().find(|(at, _)| at.div_ceil(granularity) * granularity <= now);
            prop_assert_eq!(late, None);
            prop_assert_eq!(wheel.len(), model.len());
            prop_assert_eq!(wheel.next_deadline().is_none(), model.is_empty());
            if let Some(next) = wheel.next_deadline() {
                let earliest = model.values().map(|(at, _)| *at).min().unwrap();
                prop_assert!(next.as_millis() <= earliest.div_ceil(granularity) * granularity);
                prop_assert!(next.as_millis() > now);
            }
        }
    }

    #[test]
    fn fifo(steps in proptest::collection::vec((0..50_u64, any::<bool>()), 0..100)) {
        let mut fifo = DeadlineFifo::new(Duration::from_millis(100));
        let mut model = Vec::new();
        let mut now = 0;
        for (number, (step, push)) in steps.into_iter().enumerate() {
            now += step;
            if push {
                fifo.push(Millis::from_millis(now), number);
                model.push((now + 100, number));
            }
            let next = fifo.next_deadline().map(Millis::as_millis);
            prop_assert_eq!(next, model.first().map(|e| e.0));
            while let Some(number) = fifo.pop_due(Millis::from_millis(now)) {
                let (due, want) = model.remove(0);
                prop_assert!(due <= now);
                prop_assert_eq!(number, want);
            }
            prop_assert!(model.first().is_none_or(|(due, _)| *due > now));
            prop_assert_eq!(fifo.len(), model.len());
        }
    }

    #[test]
    fn map(
        ops in proptest::collection::vec(map_op(), 0..200),
        limit in 0..10_usize,
        evict in prop_oneof![Just(Evict::Oldest), Just(Evict::LeastRecent), Just(Evict::Refuse)],
    ) {
        let mut map = BoundedMap::new(limit, evict);
        // The next to be evicted first.
        let mut model: Vec<(u8, u32)> = Vec::new();
        for op in ops {
            match op {
                MapOp::Insert(key, value) => {
                    let place = model.iter().position(|entry| entry.0 == key);
                    let want = if let Some(place) = place {
                        let old = core::mem::replace(&mut model[place].1, value);
                        if evict == Evict::LeastRecent {
                            let entry = model.remove(place);
                            model.push(entry);
                        }
                        Inserted::Replaced(old)
                    } else if model.len() < limit {
                        model.push((key, value));
                        Inserted::New
                    } else if limit == 0 || evict == Evict::Refuse {
                        Inserted::Refused(key, value)
                    } else {
                        let (old_key, old) = model.remove(0);
                        model.push((key, value));
                        Inserted::Evicted(old_key, old)
                    };
                    prop_assert_eq!(map.insert(key, value), want);
                }
                MapOp::Get(key) => {
                    let want = model.iter().find(|entry| entry.0 == key).map(|entry| &entry.1);
                    prop_assert_eq!(map.get(&key), want);
                }
                MapOp::Touch(key) => {
                    let place = model.iter().position(|entry| entry.0 == key);
                    prop_assert_eq!(map.touch(&key), place.is_some());
                    if let Some(place) = place && evict == Evict::LeastRecent {
                        let entry = model.remove(place);
                        model.push(entry);
                    }
                }
                MapOp::Remove(key) => {
                    let place = model.iter().position(|entry| entry.0 == key);
                    prop_assert_eq!(map.remove(&key), place.map(|place| model.remove(place).1));
                }
                MapOp::PopOldest => {
                    let want = (!model.is_empty()).then(|| model.remove(0));
                    prop_assert_eq!(map.pop_oldest(), want);
                }
                MapOp::Clear => {
                    map.clear();
                    model.clear();
                }
            }
            prop_assert_eq!(map.len(), model.len());
            let all: Vec<(u8, u32)> = map.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(&all, &model);
        }
    }
}
