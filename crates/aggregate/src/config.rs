//! Aggregates declared in JSON, for configuration files and other languages.

use millstream_core::RawJsonRef;
use millstream_schedule::{Period, Zone};

use crate::sketch::{Distinct, Quantiles, TopK};
use crate::spec::Work;
use crate::window::{Kind, WindowSpec};
use crate::{FieldSpec, Helper, Limits, Spec, SpecError, Value, WindowProblem};

impl Spec {
    /// Reads a declaration:
    ///
    /// ```json
    /// {
    ///   "reducers": [
    ///     {"field": "count", "kind": "count", "on": ["created"]},
    ///     {"field": "total", "kind": "sum", "path": "amount"},
    ///     {"field": "mean", "kind": "ratio", "num": "total", "den": "count"}
    ///   ],
    ///   "windows": [
    ///     {"name": "all", "type": "lifetime"},
    ///     {"name": "today", "type": "tumbling", "period": "daily", "tz": "Europe/Berlin"},
    ///     {"name": "quarter", "type": "tumbling", "durationMs": 900000, "anchor": 0},
    ///     {"name": "recent", "type": "sliding", "durationMs": 60000, "slideMs": 1000,
    ///      "debounce": 250}
    ///   ],
    ///   "debounceMs": 0
    /// }
    /// ```
    ///
    /// Every reducer has a `field` and a `kind`; all but computed ones take `on`, a list of the
    /// event names that count. `path` names a field of the data, or is a list of names that leads
    /// down. `combine` (`sum`, `max`, `min`, `counts`, `merge`) says how a sliding window puts its
    /// hops together, if not as usual.
    ///
    /// | kind | members | |
    /// |---|---|---|
    /// | `count`, `merge` | | |
    /// | `sum`, `max`, `min`, `last`, `append`, `counts`, `average` | `path` | |
    /// | `distinct` | `path`, `precision` | see [`Distinct`] |
    /// | `quantiles` | `path`, `quantiles`, `accuracy` | see [`Quantiles`] |
    /// | `topk` | `path`, `k`, `counters` | see [`TopK`] |
    /// | `const` | `value` | |
    /// | `ratio` | `num`, `den` | computed |
    /// | `double` | `of` | computed |
    /// | `top` | `of`, `n` | computed |
    ///
    /// Further members: `waitMaxMs` (a number, or `null` for never) and `publishReset`. Unknown
    /// members are passed over. `snapshots` may name windows, `{"windows": {name: ...}}`; the names
    /// are checked, nothing is taken in.
    ///
    /// # Errors
    /// [`SpecError`] for what cannot be read. What can be read but makes no sense is found by
    /// [`build`](Spec::build).
    pub fn from_json(json: RawJsonRef<'_>) -> Result<Self, SpecError> {
        if !json.is_object() {
            return Err(shape("the declaration", "an object"));
        }
        let mut spec = Self::new();
        for (at, reducer) in list(json, "reducers")?.into_iter().flatten().enumerate() {
            // One more than allowed is enough for `build` to refuse.
            if at <= spec.limits.reducers_max {
                spec.fields.push(field(reducer)?);
            }
        }
        if let Some(windows) = list(json, "windows")? {
            let some = windows.take(spec.limits.windows_max + 1);
            let windows = some.map(|declared| window(declared, &spec.limits));
            spec.windows = Some(windows.collect::<Result<_, _>>()?);
        }
        let top = |name, json| {
            let wanted = "a whole number of milliseconds from 0 on";
            millis(name, json, 0).map_err(|_| shape(name, wanted))
        };
        let debounce = member(json, "debounceMs").or_else(|| member(json, "debounce"));
        if let Some(debounce) = debounce {
            spec.debounce_ms = top("debounceMs", debounce)?;
        }
        if let Some(wait_max) = json.field("waitMaxMs") {
            spec.wait_max_ms = Some(match wait_max.is_null() {
                true => u64::MAX,
                false => top("waitMaxMs", wait_max)?,
            });
        }
        if let Some(reset) = member(json, "publishReset") {
            let reset = reset.as_bool();
            spec.publish_reset = reset.ok_or_else(|| shape("publishReset", "true or false"))?;
        }
        check_snapshots(&spec, json)?;
        Ok(spec)
    }
}

fn check_snapshots(spec: &Spec, json: RawJsonRef<'_>) -> Result<(), SpecError> {
    let named = member(json, "snapshots").and_then(|snapshots| member(snapshots, "windows"));
    for (name, _) in named.unwrap_or(RawJsonRef::NULL).fields() {
        let name = name.to_cow();
        let mut windows = spec.windows.iter().flatten();
        if !windows.any(|window| *window.name == *name) {
            let name = name.chars().take(64).collect();
            return Err(SpecError::SnapshotName { name });
        }
    }
    Ok(())
}

fn field(json: RawJsonRef<'_>) -> Result<FieldSpec, SpecError> {
    let name = text(json, "field").ok_or_else(|| shape("field of a reducer", "a string"))?;
    let wrong = |problem: String| SpecError::Field {
        name: name.clone(),
        problem: problem.into(),
    };
    let kind = text(json, "kind").ok_or_else(|| wrong("kind must be a string".into()))?;
    let needs = |member: &str| {
        let value = text(json, member);
        value.ok_or_else(|| wrong(format!("{kind} needs {member}, a string")))
    };
    let count = |member: &str, usual: usize| match self::member(json, member) {
        None => Ok(usual),
        Some(value) => {
            let count = value
                .as_f64()
                .filter(|n| n.trunc() == *n && (0.0..=1e9).contains(n));
            let count = count.map(|n| n as usize);
            count.ok_or_else(|| wrong(format!("{member} must be a whole number")))
        }
    };
    let path = path(json, &wrong)?;
    let with_path = |work| match &path {
        Some(_) => Ok(FieldSpec::new(&name, None, work)),
        None => Err(wrong(format!("{kind} needs path"))),
    };
    let mut spec = match &*kind {
        "count" => FieldSpec::count(&name),
        "merge" => FieldSpec::merge(&name),
        "sum" => with_path(Work::Sum)?,
        "max" => with_path(Work::Max)?,
        "min" => with_path(Work::Min)?,
        "last" => with_path(Work::Last)?,
        "append" => with_path(Work::Append)?,
        "counts" => with_path(Work::Counts)?,
        "const" => {
            let value = json.field("value").map_or(Value::Absent, Value::from_json);
            FieldSpec::constant(&name, value)
        }
        "ratio" => FieldSpec::ratio(&name, &needs("num")?, &needs("den")?),
        "double" => FieldSpec::double(&name, &needs("of")?),
        "top" => FieldSpec::top(&name, &needs("of")?, count("n", usize::MAX)?),
        "average" | "distinct" | "quantiles" | "topk" => {
            with_path(Work::Count)?;
            sketch(&name, &kind, json, &count)?
        }
        _ => return Err(wrong(format!("unknown kind {kind:?}"))),
    };
    if path.is_some() && !spec.is_computed() {
        spec.path = path;
    }
    if let Some(on) = member(json, "on") {
        let names = on.is_array().then(|| on.elements().map(as_text).collect());
        let names: Option<Option<Vec<_>>> = names;
        let names = names.flatten();
        let names = names.ok_or_else(|| wrong("on must be a list of event names".into()))?;
        spec.on = Some(names.into_iter().map(Into::into).collect());
    }
    if let Some(combine) = member(json, "combine") {
        let helper = as_text(combine).and_then(|name| Helper::from_name(&name));
        spec.combine = Some(
            helper
                .ok_or_else(|| wrong("combine is none of sum, max, min, counts, merge".into()))?,
        );
    }
    Ok(spec)
}

fn sketch(
    name: &str,
    kind: &str,
    json: RawJsonRef<'_>,
    count: &dyn Fn(&str, usize) -> Result<usize, SpecError>,
) -> Result<FieldSpec, SpecError> {
    Ok(match kind {
        "average" => FieldSpec::average(name, ""),
        "distinct" => {
            let precision = count("precision", 12)?.min(64) as u8;
            FieldSpec::sketch(name, "", move |source| Distinct::from(source, precision))
        }
        "quantiles" => {
            let accuracy = member(json, "accuracy").and_then(|value| value.as_f64());
            let quantiles = member(json, "quantiles").filter(RawJsonRef::is_array);
            let quantiles: Option<Vec<f64>> = quantiles.map(|list| {
                list.elements()
                    .take(32)
                    .filter_map(|n| n.as_f64())
                    .collect()
            });
            FieldSpec::sketch(name, "", move |source| {
                let sketch = Quantiles::from(source).accuracy(accuracy.unwrap_or(0.01));
                match quantiles {
                    Some(quantiles) => sketch.quantiles(&quantiles),
                    None => sketch,
                }
            })
        }
        _ => {
            let k = count("k", 10)?;
            let counters = count("counters", k.saturating_mul(10))?;
            FieldSpec::sketch(name, "", move |source| {
                TopK::from(source, k).counters(counters)
            })
        }
    })
}

fn path(
    json: RawJsonRef<'_>,
    wrong: &impl Fn(String) -> SpecError,
) -> Result<Option<Vec<Box<str>>>, SpecError> {
    let Some(path) = member(json, "path") else {
        return Ok(None);
    };
    let names: Option<Vec<String>> = if path.is_array() {
        path.elements().map(as_text).collect()
    } else {
        as_text(path).map(|name| vec![name])
    };
    let names = names.filter(|names| (1..=16).contains(&names.len()));
    let names = names.ok_or_else(|| wrong("path must be a name or a list of up to 16".into()))?;
    Ok(Some(names.into_iter().map(Into::into).collect()))
}

fn window(json: RawJsonRef<'_>, limits: &Limits) -> Result<WindowSpec, SpecError> {
    let name = text(json, "name").ok_or_else(|| shape("name of a window", "a string"))?;
    if name.len() > limits.name_bytes_max {
        return Err(SpecError::Name {
            what: "window",
            name: name.chars().take(64).collect(),
            problem: "is longer than the limit",
        });
    }
    let wrong = |problem| SpecError::Window {
        name: name.clone(),
        problem,
    };
    let kind = kind(json).map_err(wrong)?;
    let mut spec = WindowSpec::new(&name, kind);
    let debounce = member(json, "debounce").or_else(|| member(json, "debounceMs"));
    if let Some(debounce) = debounce {
        spec.debounce_ms = Some(millis("debounce", debounce, 0).map_err(wrong)?);
    }
    Ok(spec)
}

fn kind(json: RawJsonRef<'_>) -> Result<Kind, WindowProblem> {
    let got = |member: Option<RawJsonRef<'_>>| {
        let got = member.map_or("missing", |value| value.as_str());
        got.chars().take(64).collect::<String>()
    };
    let declared = member(json, "type");
    match declared.and_then(as_text).as_deref() {
        Some("lifetime") => Ok(Kind::Lifetime),
        Some("sliding") => {
            let given = |name: &'static str| {
                let value = member(json, name);
                value.map_or_else(
                    || {
                        Err(WindowProblem::Millis {
                            member: name,
                            range: "above 0",
                            got: "missing".into(),
                        })
                    },
                    |value| millis(name, value, 1),
                )
            };
            Ok(Kind::Sliding {
                duration_ms: given("durationMs")?,
                slide_ms: given("slideMs")?,
            })
        }
        Some("tumbling") => match (member(json, "period"), member(json, "durationMs")) {
            (Some(period), None) => calendar(period, member(json, "tz"), &got),
            (None, Some(duration)) => {
                let anchor_ms = member(json, "anchor").map_or(Ok(0), |anchor| {
                    whole(anchor).ok_or_else(|| WindowProblem::Millis {
                        member: "anchor",
                        range: "since 1970",
                        got: got(Some(anchor)),
                    })
                })?;
                let duration_ms = millis("durationMs", duration, 1)?;
                Ok(Kind::Fixed {
                    duration_ms,
                    anchor_ms,
                })
            }
            _ => Err(WindowProblem::PeriodOrDuration),
        },
        _ => Err(WindowProblem::Type { got: got(declared) }),
    }
}

fn calendar(
    period: RawJsonRef<'_>,
    zone: Option<RawJsonRef<'_>>,
    got: &dyn Fn(Option<RawJsonRef<'_>>) -> String,
) -> Result<Kind, WindowProblem> {
    let unknown = || WindowProblem::Period {
        got: got(Some(period)),
    };
    let period = match as_text(period).ok_or_else(unknown)?.as_str() {
        "minute" => Period::Minute,
        "hour" => Period::Hour,
        "daily" => Period::Day,
        "monthly" => Period::Month,
        _ => return Err(unknown()),
    };
    let zone = match zone {
        None => Zone::utc(),
        Some(name) => {
            let found = as_text(name).and_then(|name| Zone::get(&name).ok());
            found.ok_or_else(|| WindowProblem::Zone {
                zone: got(Some(name)),
            })?
        }
    };
    Ok(Kind::Calendar { period, zone })
}

/// A whole number of milliseconds from `least` on.
fn millis(member: &'static str, json: RawJsonRef<'_>, least: i64) -> Result<u64, WindowProblem> {
    let millis = whole(json).filter(|millis| *millis >= least);
    let millis = millis.and_then(|millis| u64::try_from(millis).ok());
    millis.ok_or_else(|| WindowProblem::Millis {
        member,
        range: if least > 0 { "above 0" } else { "from 0 on" },
        got: json.as_str().chars().take(64).collect(),
    })
}

/// A whole number that a float holds exactly.
fn whole(json: RawJsonRef<'_>) -> Option<i64> {
    let number = json.as_f64().filter(|number| number.trunc() == *number)?;
    (number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// A member; `null` is as good as none.
fn member<'a>(json: RawJsonRef<'a>, name: &str) -> Option<RawJsonRef<'a>> {
    json.field(name).filter(|value| !value.is_null())
}

fn text(json: RawJsonRef<'_>, name: &str) -> Option<String> {
    member(json, name).and_then(as_text)
}

fn as_text(json: RawJsonRef<'_>) -> Option<String> {
    json.as_json_str().map(|token| token.to_cow().into_owned())
}

fn list<'a>(
    json: RawJsonRef<'a>,
    name: &str,
) -> Result<Option<millstream_core::Elements<'a>>, SpecError> {
    match member(json, name) {
        None => Ok(None),
        Some(list) if list.is_array() => Ok(Some(list.elements())),
        Some(_) => Err(shape(name, "a list")),
    }
}

fn shape(what: &str, wanted: &'static str) -> SpecError {
    SpecError::Shape {
        what: what.to_owned(),
        wanted,
    }
}
