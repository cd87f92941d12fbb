//! Every engine next to a naive model of it, driven by bytes: what the property tests and the fuzz
//! target share. The models are lists that are searched from the front.

mod dedup;
mod idempotency;
mod lock;
mod queue;
mod session;
mod shape;

use millstream_core::Millis;
use millstream_flow::Weigh;

/// Engines that can be driven.
#[allow(dead_code, reason = "used by the fuzz target")]
pub(crate) const ENGINES: u8 = 8;

/// Drives one engine and its model with the same operations.
///
/// # Panics
/// When they differ, or a promise is broken.
pub(crate) fn drive(engine: u8, operations: &[u8]) {
    let mut input = Input(operations);
    match engine {
        0 => shape::throttle(&mut input),
        1 => shape::debounce(&mut input),
        2 => shape::coalesce(&mut input),
        3 => queue::run(&mut input),
        4 => lock::run(&mut input),
        5 => session::run(&mut input),
        6 => dedup::run(&mut input),
        _ => idempotency::run(&mut input),
    }
}

/// Bytes as a source of choices. When they run out, the run ends.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn below(&mut self, n: u8) -> Option<usize> {
        Some(usize::from(self.next()? % n))
    }

    /// Configuration: missing bytes count as zero.
    fn option(&mut self, n: u8) -> usize {
        self.below(n).unwrap_or(0)
    }

    /// A step in time: mostly forward, sometimes none, now and then back or far.
    fn step(&mut self, now: &mut u64) -> Option<Millis> {
        *now = match self.next()? {
            250..=252 => now.saturating_sub(3),
            253 => now.saturating_add(1_000),
            byte => *now + u64::from(byte % 8),
        };
        Some(Millis::from_millis(*now))
    }
}

/// Names of different lengths; the empty one and one that is too long are among them.
const NAMES: [&str; 7] = ["", "a", "b", "cc", "ddd", "\u{1f600}", "much too long"];

/// Longest of them that is admitted, in UTF-16 units.
const UNITS_MAX: usize = 3;

fn name(input: &mut Input<'_>) -> Option<&'static str> {
    // The odd ones are rarer.
    let at = input.below(20)?;
    Some(NAMES[if at < 7 { at } else { at % 4 + 1 }])
}

/// A value that can be told from others and weighs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    number: u32,
    weight: u8,
}

impl Weigh for Load {
    fn weight(&self) -> usize {
        usize::from(self.weight)
    }
}

fn load(input: &mut Input<'_>, numbers: &mut u32) -> Option<Load> {
    *numbers += 1;
    let weight = input.below(12)? as u8;
    Some(Load {
        number: *numbers,
        weight,
    })
}

/// A limit that is tight, or one that is never reached.
fn tight(input: &mut Input<'_>, most: u8) -> usize {
    match input.option(most + 2) {
        n if n > usize::from(most) => 1_000_000,
        n => n,
    }
}
