//! Every scenario of the shared vectors, against the JavaScript original's observed behaviour.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod drive;

use drive::{Dedups, Locks, Queues, Sessions, Shapes};
use millstream_vectors::check;

#[test]
fn throttle_and_debounce() {
    check::<Shapes>(include_str!("../../../vectors/throttle.json"));
}

#[test]
fn queue() {
    check::<Queues>(include_str!("../../../vectors/queue.json"));
}

#[test]
fn lock() {
    check::<Locks>(include_str!("../../../vectors/lock.json"));
}

#[test]
fn session() {
    check::<Sessions>(include_str!("../../../vectors/session.json"));
}

#[test]
fn dedup() {
    check::<Dedups>(include_str!("../../../vectors/dedup.json"));
}
