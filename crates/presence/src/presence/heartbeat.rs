//! Which people are still there, from time to time.

use core::time::Duration;

use bytes::Bytes;
use millstream_core::Millis;

use super::roster::Rosters;
use crate::pool::NIL;
use crate::{Data, Effects};

/// The clock of the heartbeats and how far the present round has come.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    pub(super) due: Option<Millis>,
    /// The next topic of an unfinished round, which may be none.
    round: Option<u32>,
}

impl Heartbeat {
    pub(super) fn start(&mut self, now: Millis, period: Duration) {
        if self.due.is_none() && !period.is_zero() {
            self.due = Some(now + period);
        }
    }

    /// Sends up to `limit` heartbeats; gives how many.
    pub(super) fn run(
        &mut self,
        now: Millis,
        period: Duration,
        limit: usize,
        rosters: &mut Rosters,
        out: &mut impl Effects,
    ) -> u64 {
        let Some(due) = self.due.filter(|due| *due <= now) else {
            return 0;
        };
        let mut at = self.round.take().unwrap_or(rosters.order.head);
        let mut sent = 0;
        while at != NIL && sent < limit as u64 {
            let roster = &mut rosters.topics[at];
            let keys = roster.keys.get_or_insert_with(|| {
                // A round keeps the list: it costs nothing until somebody comes or goes.
                keys(roster.rope.texts())
            });
            out.publish(&roster.tap, "heartbeat", &Data::shared(keys));
            at = roster.order.next;
            sent += 1;
        }
        if at == NIL {
            self.due = Some(next(due, now, period));
        } else {
            self.round = Some(at);
        }
        sent
    }

    /// A topic loses its last person: an unfinished round goes on with the one after it.
    pub(super) fn step_over(&mut self, topic: u32, next: u32) {
        if self.round == Some(topic) {
            self.round = Some(next);
        }
    }
}

/// The first multiple of the period after `now`: what was missed is not made up for.
fn next(due: Millis, now: Millis, period: Duration) -> Millis {
    let step = (Millis::ZERO + period).as_millis().max(1);
    let late = now.as_millis().saturating_sub(due.as_millis());
    let ahead = (late / step + 1).saturating_mul(step);
    Millis::from_millis(due.as_millis().saturating_add(ahead))
}

fn keys<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut out = vec![b'['];
    for text in texts {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(key_token(text));
    }
    out.push(b']');
    out.into()
}

/// The key of `,"key":record`, quotes included.
pub(super) fn key_token(text: &[u8]) -> &[u8] {
    let mut at = 2;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return &text[1..=at],
            Some(_) => at += 1,
            None => return b"\"\"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_quotes() {
        let texts: [&[u8]; 3] = [br#","a":1"#, br#","":{"b":2}"#, br#","\"\\":{}"#];
        let expected: &[u8] = br#"["a","","\"\\"]"#;
        assert_eq!(keys(texts.into_iter()), expected);
        assert_eq!(keys([].into_iter()), &b"[]"[..]);
    }

    #[test]
    fn late_calls_skip_and_do_not_shift() {
        let at = Millis::from_millis;
        let period = Duration::from_millis(100);
        assert_eq!(next(at(130), at(130), period), at(230));
        assert_eq!(next(at(130), at(229), period), at(230));
        assert_eq!(next(at(130), at(230), period), at(330));
        assert_eq!(next(at(130), at(1_000_000), period), at(1_000_030));
        assert_eq!(next(at(130), Millis::MAX, period), Millis::MAX);
    }
}
