//! Which kinds of work are refused under pressure.

use core::fmt;

use hashbrown::HashMap;
use millstream_hub::{Reason, Snapshot};
use millstream_ratelimit::{Pressure, Rule, Verdict};

use crate::app::Problem;

/// Classes of work, and when each is shed.
///
/// Streams name theirs with [`Stream::class_of_service`](crate::Stream::class_of_service), calls
/// ask with [`Ctx::shed`](crate::Ctx::shed). A class that nobody has declared is an error when the
/// application is built. At most 256 classes.
///
/// ```
/// use millstream_live::{Admission, App, Module, Reason, Stream};
///
/// let admission = Admission::new()
///     .class("background", [Reason::Memory, Reason::PublishRate])
///     .class_when("bulk", |load| load.publish_rate > 5_000.0);
/// let feed = Stream::fixed("feed").class_of_service("background");
/// let app = App::<(), ()>::new(())
///     .module(Module::new("news").stream("feed", feed))
///     .admission(admission);
/// assert!(app.build().is_ok());
/// ```
#[derive(Default)]
pub struct Admission {
    rules: millstream_ratelimit::Admission,
    predicates: HashMap<String, Predicate>,
    problems: Vec<Problem>,
}

type Predicate = Box<dyn Fn(&Snapshot) -> bool + Send + Sync>;

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("rules", &self.rules)
            .field("predicates", &self.predicates.len())
            .finish_non_exhaustive()
    }
}

impl Admission {
    /// No classes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A class that is shed while the load's reason is one of these; none: never.
    /// [`Reason::None`] sheds while nothing presses.
    #[must_use]
    pub fn class(self, name: &str, reasons: impl IntoIterator<Item = Reason>) -> Self {
        let reasons = reasons.into_iter().map(translate);
        self.set(name, Rule::on(reasons), None)
    }

    /// A class that is shed while the predicate says so. It sees the load as it was sampled last.
    #[must_use]
    pub fn class_when(
        self,
        name: &str,
        shed: impl Fn(&Snapshot) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.set(name, Rule::never(), Some(Box::new(shed)))
    }

    fn set(mut self, name: &str, rule: Rule, predicate: Option<Predicate>) -> Self {
        if self.has(name) {
            self.problems.push(Problem::ClassTwice(name.to_owned()));
        }
        if let Err(error) = self.rules.set(name, rule) {
            self.problems.push(Problem::Admission(error.to_string()));
        }
        if let Some(predicate) = predicate {
            self.predicates.insert(name.to_owned(), predicate);
        }
        self
    }

    pub(crate) fn problems(&mut self) -> Vec<Problem> {
        core::mem::take(&mut self.problems)
    }

    /// Whether the class was declared.
    pub(crate) fn has(&self, class: &str) -> bool {
        self.rules.class(class).is_ok()
    }

    /// Whether work of a class is refused now; `None` when there is no such class.
    pub(crate) fn sheds(&self, class: &str, load: &Snapshot) -> Option<bool> {
        let known = self.rules.class(class).ok()?;
        if let Some(predicate) = self.predicates.get(class) {
            return Some(predicate(load));
        }
        let pressure = Pressure::of([translate(load.reason)]);
        let verdict = self.rules.judge_class(known, Some(pressure));
        Some(matches!(verdict, Verdict::Shed { .. }))
    }
}

fn translate(reason: Reason) -> millstream_ratelimit::Reason {
    match reason {
        Reason::Memory => millstream_ratelimit::Reason::Memory,
        Reason::PublishRate => millstream_ratelimit::Reason::PublishRate,
        Reason::Subscribers => millstream_ratelimit::Reason::Subscribers,
        _ => millstream_ratelimit::Reason::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_shed_for_their_reasons_alone() {
        let admission = Admission::new()
            .class("memory", [Reason::Memory])
            .class("never", [])
            .class("idle", [Reason::None])
            .class_when("many", |load| load.publish_rate >= 2.0);
        let load = |reason, publish_rate| Snapshot {
            reason,
            publish_rate,
            ..Snapshot::default()
        };
        let shed = |class, load: &Snapshot| admission.sheds(class, load);
        let calm = load(Reason::None, 0.0);
        let busy = load(Reason::Memory, 2.0);
        assert_eq!(shed("memory", &calm), Some(false));
        assert_eq!(shed("memory", &busy), Some(true));
        assert_eq!(shed("memory", &load(Reason::Subscribers, 0.0)), Some(false));
        assert_eq!(shed("never", &busy), Some(false));
        assert_eq!(shed("idle", &calm), Some(true));
        assert_eq!(shed("many", &calm), Some(false));
        assert_eq!(shed("many", &busy), Some(true));
        assert_eq!(shed("other", &calm), None);
    }

    #[test]
    fn mistakes_are_remembered_for_the_build() {
        let mut twice = Admission::new().class("a", []).class("a", []);
        assert_eq!(twice.problems(), [Problem::ClassTwice("a".to_owned())]);
        let mut many = (0..=millstream_ratelimit::CLASSES_MAX)
            .fold(Admission::new(), |all, n| all.class(&n.to_string(), []));
        assert_eq!(many.problems().len(), 1);
    }
}
