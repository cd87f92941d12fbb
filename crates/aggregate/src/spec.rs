//! What an aggregate is made of, and whether that makes sense.

use core::fmt::Debug;
use core::time::Duration;
use std::sync::Arc;

use crate::column::{Column, Shape};
use crate::compute::{Formula, Operand, Place};
use crate::counts::Counts;
use crate::merge::{List, Merge};
use crate::reducer::Path;
use crate::scalar::{Operation, Scalar};
use crate::sketch::{Average, Distinct, Quantiles, Source, TopK};
use crate::typed::{Combiner, Typed};
use crate::window::{Kind, WindowSpec, millis};
use crate::{
    Aggregate, Combine, Helper, Limits, Now, ReduceError, Reducer, SpecError, Value, View,
    WindowProblem, js,
};

/// What an aggregate is made of.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_aggregate::{FieldSpec, Now, Spec, WindowSpec};
///
/// let aggregate = Spec::new()
///     .field(FieldSpec::count("count"))
///     .field(FieldSpec::sum("total", "amount").on(&["paid"]))
///     .field(FieldSpec::ratio("mean", "total", "count"))
///     .window(WindowSpec::lifetime("all"))
///     .window(WindowSpec::fixed("quarter", Duration::from_secs(900)))
///     .build(Now::default())?;
/// # Ok::<(), millstream_aggregate::SpecError>(())
/// ```
#[derive(Debug, Default)]
pub struct Spec {
    pub(crate) fields: Vec<FieldSpec>,
    /// `None` for a single state.
    pub(crate) windows: Option<Vec<WindowSpec>>,
    pub(crate) debounce_ms: u64,
    pub(crate) wait_max_ms: Option<u64>,
    pub(crate) publish_reset: bool,
    pub(crate) clock_check_ms: Option<u64>,
    pub(crate) limits: Limits,
}

impl Spec {
    /// Nothing yet: a single state without fields.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock_check_ms: Some(60_000),
            ..Self::default()
        }
    }

    /// Adds a field. Their order is that of the output; computed fields come last.
    #[must_use]
    pub fn field(mut self, field: FieldSpec) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds a window. Without any there is a single state that is never reset.
    #[must_use]
    pub fn window(mut self, window: WindowSpec) -> Self {
        self.windows.get_or_insert_default().push(window);
        self
    }

    /// Outputs only after so much silence. Zero, the default, outputs on every event.
    #[must_use]
    pub fn debounce(mut self, debounce: Duration) -> Self {
        self.debounce_ms = millis(debounce);
        self
    }

    /// The longest that steady events may put a debounced output off. By default ten times the
    /// debounce; `Duration::MAX` for ever, as the JavaScript original does.
    #[must_use]
    pub fn wait_max(mut self, wait_max: Duration) -> Self {
        self.wait_max_ms = Some(millis(wait_max));
        self
    }

    /// Also outputs the fresh state of a tumbling window, right after its closing state. Off by
    /// default: subscribers of the original see the old values until the next event.
    #[must_use]
    pub const fn publish_reset(mut self, publish_reset: bool) -> Self {
        self.publish_reset = publish_reset;
        self
    }

    /// How often to look at the wall clock while a tumbling window runs, so that a clock that was
    /// set is noticed without events. Default 60 s; `None` never.
    #[must_use]
    pub fn clock_check(mut self, every: Option<Duration>) -> Self {
        self.clock_check_ms = every.map(millis);
        self
    }

    /// Bounds other than the defaults.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Checks everything and starts the aggregate at `now`.
    ///
    /// # Errors
    /// [`SpecError`] for the first thing that is wrong; texts name the window or field.
    pub fn build(self, now: Now) -> Result<Aggregate, SpecError> {
        check_windows(&self)?;
        check_fields(&self)?;
        Ok(Aggregate::start(self, now))
    }
}

/// A field as declared.
pub struct FieldSpec {
    pub(crate) name: String,
    pub(crate) on: Option<Vec<Box<str>>>,
    pub(crate) combine: Option<Helper>,
    pub(crate) path: Option<Vec<Box<str>>>,
    pub(crate) work: Work,
}

/// What a field does.
pub(crate) enum Work {
    Count,
    Sum,
    Max,
    Min,
    Last,
    Append,
    Counts,
    Merge,
    Const(Value),
    Ratio(Box<str>, Box<str>),
    Double(Box<str>),
    Top(Box<str>, usize),
    Compute(Formula),
    Typed { make: Make, combines: bool },
}

type Make = Box<dyn FnOnce(Option<Path>, &[Shape]) -> Box<dyn Column> + Send>;

impl Debug for FieldSpec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut debug = f.debug_struct("FieldSpec");
        debug.field("name", &self.name).finish_non_exhaustive()
    }
}

impl FieldSpec {
    pub(crate) fn new(name: &str, path: Option<&str>, work: Work) -> Self {
        Self {
            name: name.to_owned(),
            on: None,
            combine: None,
            path: path.map(|path| vec![path.into()]),
            work,
        }
    }

    /// How many events there were.
    #[must_use]
    pub fn count(name: &str) -> Self {
        Self::new(name, None, Work::Count)
    }

    /// The sum of a field of the data. Adds as JavaScript's `+` does: text is joined.
    #[must_use]
    pub fn sum(name: &str, path: &str) -> Self {
        Self::new(name, Some(path), Work::Sum)
    }

    /// The largest value of a field; `null` until there is one.
    #[must_use]
    pub fn max(name: &str, path: &str) -> Self {
        Self::new(name, Some(path), Work::Max)
    }

    /// The smallest value of a field; `null` until there is one.
    #[must_use]
    pub fn min(name: &str, path: &str) -> Self {
        Self::new(name, Some(path), Work::Min)
    }

    /// The newest value of a field; absent until there is one.
    #[must_use]
    pub fn last(name: &str, path: &str) -> Self {
        Self::new(name, Some(path), Work::Last)
    }

    /// All values of a field, in a list.
    #[must_use]
    pub fn append(name: &str, path: &str) -> Self {
        Self::new(name, Some(path), Work::Append)
    }

    /// How often each value of a field was there: a map from its text to a number.
    #[must_use]
    pub fn counts(name: &str, path: &str) -> Self {
        Self::new(name, Some(path), Work::Counts)
    }

    /// The data of all events, merged key by key.
    #[must_use]
    pub fn merge(name: &str) -> Self {
        Self::new(name, None, Work::Merge)
    }

    /// Always the same.
    #[must_use]
    pub fn constant(name: &str, value: Value) -> Self {
        Self::new(name, None, Work::Const(value))
    }

    /// One field divided by another; 0 unless the denominator is positive.
    #[must_use]
    pub fn ratio(name: &str, numerator: &str, denominator: &str) -> Self {
        Self::new(
            name,
            None,
            Work::Ratio(numerator.into(), denominator.into()),
        )
    }

    /// Twice another field.
    #[must_use]
    pub fn double(name: &str, of: &str) -> Self {
        Self::new(name, None, Work::Double(of.into()))
    }

    /// The `n` largest entries of a map: `[[key, number], ...]`, largest first, then by key.
    #[must_use]
    pub fn top(name: &str, of: &str, n: usize) -> Self {
        Self::new(name, None, Work::Top(of.into(), n))
    }

    /// Computed of other fields whenever a state is shown, never stored. Sees reduced fields and
    /// the computed ones declared before it. After an error the field keeps what it showed before.
    #[must_use]
    pub fn compute<F>(name: &str, function: F) -> Self
    where
        F: Fn(&View<'_>) -> Result<Value, ReduceError> + Send + Sync + 'static,
    {
        Self::new(
            name,
            None,
            Work::Compute(Formula::Custom(Arc::new(function))),
        )
    }

    /// The mean of a field, see [`Average`].
    #[must_use]
    pub fn average(name: &str, path: &str) -> Self {
        Self::sketch(name, path, Average::from)
    }

    /// How many different values a field had, see [`Distinct`].
    #[must_use]
    pub fn distinct(name: &str, path: &str) -> Self {
        Self::sketch(name, path, |source| Distinct::from(source, 12))
    }

    /// Quantiles of a field, see [`Quantiles`].
    #[must_use]
    pub fn quantiles(name: &str, path: &str) -> Self {
        Self::sketch(name, path, Quantiles::from)
    }

    /// The `k` most frequent values of a field in bounded space, see [`TopK`].
    #[must_use]
    pub fn top_k(name: &str, path: &str, k: usize) -> Self {
        Self::sketch(name, path, move |source| TopK::from(source, k))
    }

    /// A reducer of your own, for windows that do not slide.
    #[must_use]
    pub fn typed<R: Reducer>(name: &str, reducer: R) -> Self {
        let make: Make = Box::new(|_, shapes| Box::new(Typed::new(reducer, None, shapes)));
        let combines = false;
        Self::new(name, None, Work::Typed { make, combines })
    }

    /// A reducer of your own that can be combined, for all windows.
    #[must_use]
    pub fn combining<R: Combine>(name: &str, reducer: R) -> Self {
        let combiner = Some(Combiner::new());
        let make: Make = Box::new(move |_, shapes| Box::new(Typed::new(reducer, combiner, shapes)));
        let combines = true;
        Self::new(name, None, Work::Typed { make, combines })
    }

    /// A built-in reducer whose input comes from the shared scan.
    pub(crate) fn sketch<R: Combine>(
        name: &str,
        path: &str,
        reducer: impl FnOnce(Source) -> R + Send + 'static,
    ) -> Self {
        let combiner = Some(Combiner::new());
        let make: Make = Box::new(move |path, shapes| {
            let source = path.map_or_else(|| Source::Field("".into()), Source::Path);
            Box::new(Typed::new(reducer(source), combiner, shapes))
        });
        let combines = true;
        Self::new(name, Some(path), Work::Typed { make, combines })
    }

    /// Counts only events of these names.
    #[must_use]
    pub fn on(mut self, names: &[&str]) -> Self {
        self.on = Some(names.iter().map(|name| (*name).into()).collect());
        self
    }

    /// Reads `path` down from the data: field of a field of a field.
    #[must_use]
    pub fn nested(mut self, path: &[&str]) -> Self {
        self.path = Some(path.iter().map(|name| (*name).into()).collect());
        self
    }

    /// Puts the hops of sliding windows together in another way than is usual for the field.
    #[must_use]
    pub const fn combine(mut self, helper: Helper) -> Self {
        self.combine = Some(helper);
        self
    }

    pub(crate) const fn is_computed(&self) -> bool {
        let work = &self.work;
        matches!(
            work,
            Work::Ratio(..) | Work::Double(_) | Work::Top(..) | Work::Compute(_)
        )
    }

    /// Whether events change it.
    const fn is_reduced(&self) -> bool {
        !self.is_computed() && !matches!(self.work, Work::Const(_))
    }

    fn helper(&self) -> Option<Helper> {
        let usual = match self.work {
            Work::Count | Work::Sum => Some(Helper::Sum),
            Work::Max => Some(Helper::Max),
            Work::Min => Some(Helper::Min),
            Work::Counts => Some(Helper::Counts),
            Work::Merge => Some(Helper::Merge),
            _ => None,
        };
        self.combine.or(usual)
    }

    const fn combines(&self) -> bool {
        matches!(self.work, Work::Typed { combines: true, .. })
    }

    fn wrong(&self, problem: &'static str) -> SpecError {
        SpecError::Field {
            name: self.name.clone(),
            problem: problem.into(),
        }
    }
}

/// A reduced field at work.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    /// `,"name":`
    pub(crate) key: Box<str>,
    pub(crate) on: Option<Vec<Box<str>>>,
    pub(crate) column: Box<dyn Column>,
}

/// A computed field at work.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) name: Box<str>,
    /// `,"name":`
    pub(crate) key: Box<str>,
    pub(crate) formula: Formula,
}

/// The paths of all fields, each once.
#[derive(Debug, Default)]
pub(crate) struct Paths(pub(crate) Vec<Names>);

/// Names that lead down from the data; at least one.
#[derive(Debug)]
pub(crate) struct Names {
    /// The first as a string token.
    pub(crate) token: Box<str>,
    pub(crate) names: Vec<Box<str>>,
}

impl Paths {
    fn add(&mut self, path: Vec<Box<str>>) -> Path {
        let at = self.0.iter().position(|have| have.names == path);
        let at = at.unwrap_or_else(|| {
            let token = path
                .first()
                .map_or_else(String::new, |name| js::quote(name));
            let token = token.into();
            self.0.push(Names { token, names: path });
            self.0.len() - 1
        });
        Path(at as u32)
    }
}

/// Turns checked declarations into fields at work, computed ones apart.
pub(crate) fn assemble(
    fields: Vec<FieldSpec>,
    shapes: &[Shape],
    limits: &Limits,
) -> (Vec<Field>, Vec<Computed>, Paths) {
    let (mut columns, mut computed, mut paths) =
        (Vec::new(), Vec::<Computed>::new(), Paths::default());
    let (late, reduced): (Vec<_>, Vec<_>) = fields.into_iter().partition(FieldSpec::is_computed);
    for field in reduced {
        let helper = field.helper();
        let path = field.path.map(|path| paths.add(path));
        let at = path.unwrap_or(Path(u32::MAX));
        let scalar = |operation, init| -> Box<dyn Column> {
            let bytes_max = limits.field_bytes_max;
            Box::new(Scalar::new(operation, init, helper, shapes, bytes_max))
        };
        let column = match field.work {
            Work::Count => scalar(Operation::Count, Value::Number(0.0)),
            Work::Sum => scalar(Operation::Sum(at), Value::Number(0.0)),
            Work::Max => scalar(Operation::Max(at), Value::Null),
            Work::Min => scalar(Operation::Min(at), Value::Null),
            Work::Last => scalar(Operation::Last(at), Value::Absent),
            Work::Const(value) => scalar(Operation::Const, value),
            Work::Append => Box::new(List::new(at, helper, shapes, limits)),
            Work::Counts => Box::new(Counts::new(at, helper, shapes, limits)),
            Work::Merge => Box::new(Merge::new(helper, shapes, limits)),
            Work::Typed { make, .. } => make(path, shapes),
            Work::Ratio(..) | Work::Double(_) | Work::Top(..) | Work::Compute(_) => continue,
        };
        columns.push(Field {
            key: format!(",{}:", js::quote(&field.name)).into(),
            name: field.name.into(),
            on: field.on,
            column,
        });
    }
    for field in late {
        let operand = |name: Box<str>| {
            let is_column = |field: &Field| *field.name == *name;
            let is_before = |before: &Computed| *before.name == *name;
            let place = match columns.iter().position(is_column) {
                Some(at) => Place::Column(at),
                None => computed
                    .iter()
                    .position(is_before)
                    .map_or(Place::Extra, Place::Computed),
            };
            Operand { name, place }
        };
        let formula = match field.work {
            Work::Ratio(above, below) => Formula::Ratio(operand(above), operand(below)),
            Work::Double(of) => Formula::Double(operand(of)),
            Work::Top(of, n) => Formula::Top(operand(of), n),
            Work::Compute(formula) => formula,
            _ => continue,
        };
        computed.push(Computed {
            key: format!(",{}:", js::quote(&field.name)).into(),
            name: field.name.into(),
            formula,
        });
    }
    (columns, computed, paths)
}

fn check_fields(spec: &Spec) -> Result<(), SpecError> {
    let limits = &spec.limits;
    too_many("reducers", spec.fields.len(), limits.reducers_max)?;
    for (at, field) in spec.fields.iter().enumerate() {
        let twice = spec
            .fields
            .iter()
            .take(at)
            .any(|other| other.name == field.name);
        check_name("field", &field.name, limits, twice)?;
        let path = field.path.iter().flatten();
        for name in path.chain(field.on.iter().flatten()) {
            if name.len() > limits.name_bytes_max {
                return Err(field.wrong("a path or event name is longer than the limit"));
            }
        }
        if field.path.as_ref().is_some_and(Vec::is_empty) {
            return Err(field.wrong("the path is empty"));
        }
        if field.combine.is_some() && (field.is_computed() || field.combines()) {
            return Err(field.wrong("combine cannot be chosen for this kind"));
        }
    }
    Ok(())
}

fn check_windows(spec: &Spec) -> Result<(), SpecError> {
    let Some(windows) = &spec.windows else {
        return Ok(());
    };
    if windows.is_empty() {
        return Err(SpecError::WindowsEmpty);
    }
    too_many("windows", windows.len(), spec.limits.windows_max)?;
    for (at, window) in windows.iter().enumerate() {
        let twice = windows
            .iter()
            .take(at)
            .any(|other| other.name == window.name);
        check_name("window", &window.name, &spec.limits, twice)?;
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !window.name.bytes().all(usable) {
            return Err(SpecError::Name {
                what: "window",
                name: window.name.clone(),
                problem: "must be letters, digits, _ or -: it becomes part of a topic and a path",
            });
        }
        check_window(spec, window).map_err(|problem| SpecError::Window {
            name: window.name.clone(),
            problem,
        })?;
    }
    Ok(())
}

fn check_window(spec: &Spec, window: &WindowSpec) -> Result<(), WindowProblem> {
    let above_zero = |member: &'static str, millis: u64| {
        if millis > 0 {
            return Ok(());
        }
        Err(WindowProblem::Millis {
            member,
            range: "above 0",
            got: millis.to_string(),
        })
    };
    match window.kind {
        Kind::Lifetime | Kind::Calendar { .. } => {}
        Kind::Fixed { duration_ms, .. } => above_zero("durationMs", duration_ms)?,
        Kind::Sliding {
            duration_ms,
            slide_ms,
        } => {
            above_zero("durationMs", duration_ms)?;
            above_zero("slideMs", slide_ms)?;
            if slide_ms > duration_ms {
                return Err(WindowProblem::SlideAboveDuration {
                    slide_ms,
                    duration_ms,
                });
            }
            let (buckets, max) = (duration_ms.div_ceil(slide_ms), spec.limits.buckets_max);
            if buckets > u64::from(max) {
                return Err(WindowProblem::Buckets { buckets, max });
            }
            let fields = spec.fields.iter().filter(|field| field.is_reduced());
            let mut without = fields.filter(|field| field.helper().is_none() && !field.combines());
            if let Some(field) = without.next() {
                let field = field.name.clone();
                return Err(WindowProblem::Combine { field });
            }
        }
    }
    Ok(())
}

fn too_many(what: &'static str, count: usize, max: usize) -> Result<(), SpecError> {
    if count > max {
        return Err(SpecError::TooMany { what, count, max });
    }
    Ok(())
}

fn check_name(
    what: &'static str,
    name: &str,
    limits: &Limits,
    twice: bool,
) -> Result<(), SpecError> {
    let problem = match name {
        "" => "is empty",
        _ if twice => "is used twice",
        _ if name.len() > limits.name_bytes_max => "is longer than the limit",
        _ => return Ok(()),
    };
    Err(SpecError::Name {
        what,
        name: name.chars().take(64).collect(),
        problem,
    })
}
