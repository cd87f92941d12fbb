//! What happened last, for whoever has to understand a failure.

use core::fmt::Display;
use std::collections::VecDeque;

use millstream_core::Millis;

/// Steps that are printed.
const STEPS_KEPT: usize = 80;

/// Characters printed of a step: arguments may be long.
const STEP_CHARS_MAX: usize = 500;

/// The last steps of a run; printed when it ends in a panic.
pub(super) struct Trace {
    pub(super) seed: u64,
    steps: VecDeque<String>,
    total: u64,
}

impl Trace {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: VecDeque::new(),
            total: 0,
        }
    }

    pub(super) fn add(&mut self, now: Millis, step: impl Display) {
        if self.steps.len() >= STEPS_KEPT {
            self.steps.pop_front();
        }
        self.total += 1;
        let mut step = format!("{:>8} {step}", now.to_string());
        if let Some((end, _)) = step.char_indices().nth(STEP_CHARS_MAX) {
            step.truncate(end);
            step.push('…');
        }
        self.steps.push_back(step);
    }
}

impl Drop for Trace {
    #[allow(
        clippy::print_stderr,
        reason = "the test harness shows it with the failure"
    )]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let skipped = self.total - self.steps.len() as u64;
        eprintln!("seed {}; {skipped} earlier steps, then:", self.seed);
        for step in &self.steps {
            eprintln!("{step}");
        }
    }
}
