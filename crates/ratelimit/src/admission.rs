use std::fmt;

use thiserror::Error;

/// What presses most, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Reason {
    /// Memory is running out.
    Memory,
    /// Too many publishes.
    PublishRate,
    /// Too many subscriptions for each connection.
    Subscribers,
    /// Nothing.
    #[default]
    None,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Memory,
        Self::PublishRate,
        Self::Subscribers,
        Self::None,
    ];

    /// The name used in configuration, in metrics and by applications.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "MEMORY",
            Self::PublishRate => "PUBLISH_RATE",
            Self::Subscribers => "SUBSCRIBERS",
            Self::None => "NONE",
        }
    }

    /// The reason with this name.
    ///
    /// # Errors
    /// [`AdmissionError::Reason`], whose text lists the names.
    pub fn parse(name: &str) -> Result<Self, AdmissionError> {
        let found = Self::ALL.into_iter().find(|reason| reason.as_str() == name);
        found.ok_or_else(|| AdmissionError::Reason { name: short(name) })
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which signals press, at one moment. The host measures; this is what it found.
///
/// ```
/// use millstream_ratelimit::{Pressure, Reason};
///
/// let pressure = Pressure::of([Reason::Subscribers, Reason::Memory]);
/// assert_eq!(pressure.reason(), Reason::Memory);
/// assert!(pressure.has(Reason::Subscribers));
/// assert_eq!(Pressure::default().reason(), Reason::None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    active: u8,
}

impl Pressure {
    /// These signals press. [`Reason::None`] adds nothing.
    #[must_use]
    pub fn of(reasons: impl IntoIterator<Item = Reason>) -> Self {
        let all = reasons
            .into_iter()
            .fold(0, |all, reason| all | reason.bit());
        Self {
            active: all & !Reason::None.bit(),
        }
    }

    /// What presses according to three measurements: the part of memory in use, publishes per
    /// second, subscriptions for each connection.
    #[must_use]
    pub fn measured(memory: Signal, publish_rate: Signal, subscribers: Signal) -> Self {
        let signals = [
            (memory, Reason::Memory),
            (publish_rate, Reason::PublishRate),
            (subscribers, Reason::Subscribers),
        ];
        Self::of(
            signals
                .into_iter()
                .filter(|(signal, _)| signal.presses())
                .map(|(_, reason)| reason),
        )
    }

    /// What presses most.
    #[must_use]
    pub fn reason(self) -> Reason {
        let active = Reason::ALL
            .into_iter()
            .find(|reason| self.active & reason.bit() != 0);
        active.unwrap_or_default()
    }

    /// Whether this signal presses; [`Reason::None`] when no signal does.
    #[must_use]
    pub const fn has(self, reason: Reason) -> bool {
        match reason {
            Reason::None => self.active == 0,
            other => self.active & other.bit() != 0,
        }
    }
}

/// A number that the host measured, and the threshold from which on it presses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// What was measured.
    pub value: f64,
    /// Presses from here on; `None` never.
    pub threshold: Option<f64>,
}

impl Signal {
    /// Whether the value has reached the threshold. A value that is no number has not.
    #[must_use]
    pub fn presses(self) -> bool {
        self.threshold
            .is_some_and(|threshold| self.value >= threshold)
    }
}

/// When a class of work is shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    reasons: u8,
    any: bool,
}

impl Rule {
    /// When what presses **most** is one of these: a class that names only the publish rate goes on
    /// while memory presses too. The contract of the JavaScript original (svelte-realtime 0.5.12).
    /// [`Reason::None`] sheds while nothing presses.
    #[must_use]
    pub fn on(reasons: impl IntoIterator<Item = Reason>) -> Self {
        let reasons = reasons
            .into_iter()
            .fold(0, |all, reason| all | reason.bit());
        Self {
            reasons,
            any: false,
        }
    }

    /// When any of these presses, whatever else does.
    #[must_use]
    pub fn on_any(reasons: impl IntoIterator<Item = Reason>) -> Self {
        Self {
            any: true,
            ..Self::on(reasons)
        }
    }

    /// Never.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            reasons: 0,
            any: false,
        }
    }

    /// The reason for which work of this kind is shed now.
    fn shed(self, pressure: Pressure) -> Option<Reason> {
        let named = |reason: &Reason| self.reasons & reason.bit() != 0;
        if self.any {
            let active = |reason: &Reason| pressure.has(*reason);
            return Reason::ALL.into_iter().filter(active).find(named);
        }
        Some(pressure.reason()).filter(named)
    }
}

/// Classes of work, and under what pressure each is shed.
///
/// ```
/// use millstream_ratelimit::{Admission, Pressure, Reason, Rule, Verdict};
///
/// let mut admission = Admission::default();
/// admission.set("critical", Rule::never())?;
/// admission.set("interactive", Rule::on([Reason::Memory]))?;
/// admission.set("background", Rule::on([Reason::Memory, Reason::PublishRate]))?;
///
/// let busy = Some(Pressure::of([Reason::PublishRate]));
/// assert_eq!(admission.judge("interactive", busy)?, Verdict::Admit);
/// let shed = Verdict::Shed { reason: Reason::PublishRate, retry_ms: 1_000 };
/// assert_eq!(admission.judge("background", busy)?, shed);
/// assert!(admission.judge("backgruond", None).is_err());
/// # Ok::<(), millstream_ratelimit::AdmissionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Admission {
    classes: Vec<(Box<str>, Rule)>,
    retry_ms: u64,
}

impl Default for Admission {
    /// No classes: everything is admitted.
    fn default() -> Self {
        const RETRY_MS: u64 = 1_000;
        Self {
            classes: Vec::new(),
            retry_ms: RETRY_MS,
        }
    }
}

impl Admission {
    /// What those who are shed are told to wait. Default 1,000 ms, the time between two samples.
    #[must_use]
    pub const fn with_retry_ms(mut self, retry_ms: u64) -> Self {
        self.retry_ms = retry_ms;
        self
    }

    /// Adds a class, or changes its rule.
    ///
    /// # Errors
    /// [`AdmissionError::Full`] when there are [`CLASSES_MAX`] others.
    pub fn set(&mut self, class: &str, rule: Rule) -> Result<(), AdmissionError> {
        if let Some(entry) = self.classes.iter_mut().find(|entry| &*entry.0 == class) {
            entry.1 = rule;
            return Ok(());
        }
        if self.classes.len() >= CLASSES_MAX {
            return Err(AdmissionError::Full);
        }
        self.classes.push((class.into(), rule));
        Ok(())
    }

    /// The class with this name, for work that is judged often. Ask at start: a misspelt class is
    /// then found there.
    ///
    /// # Errors
    /// [`AdmissionError::Class`] when there is none.
    pub fn class(&self, name: &str) -> Result<Class, AdmissionError> {
        let found = self.classes.iter().position(|entry| &*entry.0 == name);
        let place = found.ok_or_else(|| AdmissionError::Class { name: short(name) })?;
        Ok(Class(place))
    }

    /// Whether work of this class is admitted. Without any class everything is; without a sample
    /// of the pressure everything of a class that exists is.
    ///
    /// # Errors
    /// [`AdmissionError::Class`] when there are classes, but not this one, whatever the pressure.
    pub fn judge(
        &self,
        class: &str,
        pressure: Option<Pressure>,
    ) -> Result<Verdict, AdmissionError> {
        if self.classes.is_empty() {
            return Ok(Verdict::Admit);
        }
        Ok(self.judge_class(self.class(class)?, pressure))
    }

    /// The same for a class that was looked up in this value. One of another value is admitted
    /// when there is none in its place.
    pub fn judge_class(&self, class: Class, pressure: Option<Pressure>) -> Verdict {
        let rule = self.classes.get(class.0).map(|entry| entry.1);
        let shed = rule
            .zip(pressure)
            .and_then(|(rule, pressure)| rule.shed(pressure));
        match shed {
            Some(reason) => Verdict::Shed {
                reason,
                retry_ms: self.retry_ms,
            },
            None => Verdict::Admit,
        }
    }
}

/// A class that was looked up by [`Admission::class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class(usize);

/// What becomes of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It may go on.
    Admit,
    /// It is refused, for now.
    Shed {
        /// What presses.
        reason: Reason,
        /// When it is worth trying again, in milliseconds.
        retry_ms: u64,
    },
}

/// An admission that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// Nobody has set this class.
    #[error("unknown class of service {name:?}")]
    Class {
        /// Its name, cut after 64 characters.
        name: Box<str>,
    },
    /// No such reason.
    #[error("unknown reason {name:?}: there are MEMORY, PUBLISH_RATE, SUBSCRIBERS, NONE")]
    Reason {
        /// Its name, cut after 64 characters.
        name: Box<str>,
    },
    /// More than [`CLASSES_MAX`] classes.
    #[error("too many classes of service, limit {CLASSES_MAX}")]
    Full,
}

/// Classes of one [`Admission`].
pub const CLASSES_MAX: usize = 256;

fn short(name: &str) -> Box<str> {
    const NAME_CHARS_MAX: usize = 64;
    name.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shed(rule: Rule, active: &[Reason]) -> Option<Reason> {
        let mut admission = Admission::default();
        admission.set("x", rule).unwrap();
        let pressure = Pressure::of(active.iter().copied());
        match admission.judge("x", Some(pressure)).unwrap() {
            Verdict::Admit => None,
            Verdict::Shed { reason, .. } => Some(reason),
        }
    }

    #[test]
    fn the_reason_is_what_presses_most() {
        use Reason::{Memory, None as Nothing, PublishRate, Subscribers};
        for active in 0..8_u8 {
            let signals = [Memory, PublishRate, Subscribers];
            let set = signals
                .into_iter()
                .filter(|reason| active & reason.bit() != 0);
            let pressure = Pressure::of(set.clone());
            assert_eq!(pressure.reason(), set.min().unwrap_or(Nothing));
            for reason in Reason::ALL {
                let is = match reason {
                    Nothing => active == 0,
                    other => active & other.bit() != 0,
                };
                assert_eq!(pressure.has(reason), is);
            }
        }
    }

    #[test]
    fn rules_name_reasons() {
        use Reason::{Memory, None as Nothing, PublishRate, Subscribers};
        let both = [Memory, PublishRate];
        assert_eq!(
            shed(Rule::on([PublishRate]), &[PublishRate]),
            Some(PublishRate)
        );
        // Only the strongest counts, or any.
        assert_eq!(shed(Rule::on([PublishRate]), &both), None);
        assert_eq!(shed(Rule::on_any([PublishRate]), &both), Some(PublishRate));
        assert_eq!(
            shed(Rule::on_any([PublishRate, Memory]), &both),
            Some(Memory)
        );
        assert_eq!(shed(Rule::on_any([Subscribers]), &both), None);
        assert_eq!(shed(Rule::on([Nothing]), &[]), Some(Nothing));
        assert_eq!(shed(Rule::on_any([Nothing]), &[]), Some(Nothing));
        assert_eq!(shed(Rule::on([Nothing]), &both), None);
        assert_eq!(shed(Rule::never(), &both), None);
    }

    #[test]
    fn what_is_not_known_is_an_error_or_admitted() {
        let pressure = Some(Pressure::of([Reason::Memory]));
        let mut admission = Admission::default();
        // Without classes everything passes, whatever it is called.
        assert_eq!(admission.judge("x", pressure), Ok(Verdict::Admit));
        admission.set("a", Rule::on([Reason::Memory])).unwrap();
        assert!(admission.judge("x", None).is_err());
        assert_eq!(admission.judge("a", None), Ok(Verdict::Admit));
        let class = admission.class("a").unwrap();
        let reason = Reason::Memory;
        assert_eq!(
            admission.judge_class(class, pressure),
            Verdict::Shed {
                reason,
                retry_ms: 1_000
            }
        );
        admission.set("a", Rule::never()).unwrap();
        assert_eq!(admission.judge_class(class, pressure), Verdict::Admit);
        for n in 1..CLASSES_MAX {
            admission.set(&n.to_string(), Rule::never()).unwrap();
        }
        assert_eq!(
            admission.set("one more", Rule::never()),
            Err(AdmissionError::Full)
        );
    }

    #[test]
    fn names_and_thresholds() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Ok(reason));
        }
        let error = Reason::parse("memory").unwrap_err().to_string();
        assert!(
            Reason::ALL
                .iter()
                .all(|reason| error.contains(reason.as_str()))
        );
        let presses = |value, threshold| Signal { value, threshold }.presses();
        assert!(presses(50.0, Some(50.0)) && !presses(49.9, Some(50.0)));
        assert!(!presses(f64::INFINITY, None) && !presses(f64::NAN, Some(0.0)));
        let signal = |value, threshold| Signal {
            value,
            threshold: Some(threshold),
        };
        let (low, high) = (signal(0.5, 0.85), signal(9.0, 1.0));
        assert_eq!(
            Pressure::measured(low, high, high).reason(),
            Reason::PublishRate
        );
        assert_eq!(
            Pressure::measured(high, low, low),
            Pressure::of([Reason::Memory])
        );
        assert_eq!(
            Pressure::measured(low, low, high),
            Pressure::of([Reason::Subscribers])
        );
    }
}
