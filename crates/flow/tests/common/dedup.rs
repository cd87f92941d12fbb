//! Dedup.

use core::time::Duration;
use std::collections::HashMap;

use millstream_core::{Millis, SeededRandom};
use millstream_flow::{Dedup, DedupLimits, Retention};

use super::{Input, UNITS_MAX, name, tight};

#[allow(clippy::too_many_lines, reason = "one arm for each operation")]
pub(super) fn run(input: &mut Input<'_>) {
    let retention = [Retention::Prompt, Retention::Slack][input.option(2)];
    let entries_max = tight(input, 4);
    let limits = DedupLimits {
        entries_max,
        id_units_max: UNITS_MAX,
        retention,
    };
    let ttl = input.option(30) as u64 + 1;
    let mut random = SeededRandom::new(input.option(255) as u64);
    let mut seen = Dedup::new(Duration::from_millis(ttl), limits, &mut random);
    // Ids by age of their claim, with the end of their window.
    let mut model: Vec<(&str, u64)> = Vec::new();
    let mut last_true: HashMap<&str, u64> = HashMap::new();
    let (mut clock, mut latest) = (0, 0);
    let prompt = retention == Retention::Prompt;
    let entries_max = entries_max.max(1);
    while let Some(op) = input.below(8) {
        let Some(now) = input.step(&mut clock) else {
            break;
        };
        latest = now.as_millis().max(latest);
        let Some(id) = name(input) else { break };
        if id.is_empty() || id.encode_utf16().count() > UNITS_MAX {
            assert!(seen.claim(now, id).is_err());
            continue;
        }
        let at = model.iter().position(|(other, _)| *other == id);
        let live = at.filter(|at| model[*at].1 > latest);
        match op {
            0..=3 => {
                assert_eq!(seen.claim(now, id), Ok(live.is_none()));
                if live.is_none() {
                    claim(
                        &mut model,
                        at,
                        (id, latest + ttl),
                        entries_max,
                        prompt.then_some(latest),
                    );
                    if !prompt && model.len() * 10 > entries_max * 11 {
                        model.retain(|(_, ends_at)| *ends_at > latest);
                        model.drain(..model.len().saturating_sub(entries_max));
                    }
                    // Two claims that succeed lie a window apart, or the first was forgotten.
                    let before = last_true.insert(id, latest);
                    assert!(before.is_none_or(|before| latest >= before + ttl));
                }
            }
            4 | 5 => {
                assert_eq!(seen.has(now, id), Ok(live.is_some()));
                if let Some(at) = at.filter(|_| live.is_none()) {
                    model.remove(at);
                }
            }
            6 => {
                assert_eq!(seen.remove(now, id), Ok(live.is_some()));
                if let Some(at) = at {
                    let _ = model.remove(at);
                }
            }
            _ => {
                seen.handle_timeout(now);
                if prompt {
                    model.retain(|(_, ends_at)| *ends_at > latest);
                }
            }
        }
        last_true.retain(|id, _| model.iter().any(|(other, _)| other == id));
        assert_eq!(seen.len(), model.len());
        if prompt {
            let next = seen.next_deadline().map(Millis::as_millis);
            assert_eq!(next, model.first().map(|(_, ends_at)| *ends_at));
        }
    }
}

fn claim(
    model: &mut Vec<(&'static str, u64)>,
    expired: Option<usize>,
    new: (&'static str, u64),
    entries_max: usize,
    prompt: Option<u64>,
) {
    if let Some(at) = expired {
        let _ = model.remove(at);
    }
    if let Some(now) = prompt {
        for _ in 0..2 {
            if model.first().is_some_and(|(_, ends_at)| *ends_at <= now) {
                model.remove(0);
            }
        }
        if model.len() >= entries_max {
            model.remove(0);
        }
    }
    model.push(new);
}
