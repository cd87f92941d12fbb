//! The sizes that the documentation states.

use bytes::Bytes;

use crate::arena::Place;
use crate::debounce::Pushes;
use crate::lock::{Deadline, Held, Waiter};
use crate::name::SlotName;
use crate::queue::{Lane, Task};
use crate::slots::Entry;
use crate::{idempotency, session};
use millstream_core::Millis;

#[test]
fn entries_are_as_small_as_documented() {
    assert_eq!(size_of::<Place<(SlotName, Entry<Bytes, Millis>), 2>>(), 80);
    assert_eq!(size_of::<Place<(SlotName, Entry<Bytes, Pushes>), 2>>(), 88);
    assert_eq!(size_of::<Place<(Box<str>, Bytes), 1>>(), 56);
    assert_eq!(size_of::<Place<Task<Bytes>, 1>>(), 32 + size_of::<Bytes>());
    assert_eq!(size_of::<Place<(Box<str>, Lane), 1>>(), 56);
    assert_eq!(size_of::<Place<(Box<str>, Held), 1>>(), 80);
    assert_eq!(size_of::<Place<Waiter, 1>>(), 48);
    assert_eq!(size_of::<Deadline>(), 16);
    assert_eq!(size_of::<Place<(Box<str>, session::Entry<Bytes>), 2>>(), 72);
    assert_eq!(
        size_of::<Place<(Box<str>, idempotency::Slot<Bytes>), 1>>(),
        64
    );
    assert_eq!(size_of::<Place<idempotency::Waiter, 1>>(), 32);
}
