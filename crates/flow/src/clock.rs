//! The time an engine goes by.

use millstream_core::Millis;

/// Latest time an engine was told.
///
/// Times that run backwards count as the latest one. That keeps lists ordered by time without
/// looking at them: what was appended later is never due earlier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock(Millis);

impl Clock {
    pub(crate) fn advance(&mut self, now: Millis) -> Millis {
        self.0 = self.0.max(now);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_runs_back() {
        let mut clock = Clock::default();
        assert_eq!(clock.advance(Millis::from_millis(5)).as_millis(), 5);
        assert_eq!(clock.advance(Millis::from_millis(3)).as_millis(), 5);
    }
}
