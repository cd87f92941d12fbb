//! The engines behind the words of the scenarios. Shared by the tests and by `examples/vectors.rs`.

mod dedup;
mod lock;
mod queue;
mod session;
mod tasks;
mod throttle;

use millstream_flow::KeyError;
use millstream_vectors::{is_undefined, number, rule, run};
use serde_json::{Value, json};

pub(crate) use dedup::Dedups;
pub(crate) use lock::Locks;
pub(crate) use queue::Queues;
pub(crate) use session::Sessions;
pub(crate) use throttle::Shapes;

/// Replaces what a scenario expects by what happens.
///
/// # Errors
/// When it cannot be told which plugin is meant.
#[allow(dead_code, reason = "used by the example")]
pub(crate) fn observe(scenario: &mut Value) -> Result<(), String> {
    let plugin = match scenario["plugin"].as_str() {
        Some(plugin) => plugin.to_owned(),
        None => infer(scenario).ok_or("cannot tell the plugin; add a `plugin` member")?,
    };
    let seen = match plugin.as_str() {
        "throttle" | "debounce" => run::<Shapes>(scenario),
        "queue" => run::<Queues>(scenario),
        "lock" => run::<Locks>(scenario),
        "session" => run::<Sessions>(scenario),
        "dedup" => run::<Dedups>(scenario),
        other => return Err(format!("no such plugin here: {other}")),
    };
    scenario["expect"] = Value::Array(seen);
    Ok(())
}

/// Operations and options that only one plugin has.
const TELLING: [(&str, &str); 25] = [
    ("publish", "throttle"),
    ("flush", "throttle"),
    ("cancel", "throttle"),
    ("interval", "throttle"),
    ("mode", "throttle"),
    ("maxTopics", "throttle"),
    ("maxTopicLength", "throttle"),
    ("push", "queue"),
    ("drain", "queue"),
    ("concurrency", "queue"),
    ("maxSize", "queue"),
    ("onDrop", "queue"),
    ("recordDrops", "queue"),
    ("withLock", "lock"),
    ("held", "lock"),
    ("maxKeys", "lock"),
    ("maxWaitersPerKey", "lock"),
    ("set", "session"),
    ("get", "session"),
    ("touch", "session"),
    ("setMany", "session"),
    ("claim", "dedup"),
    ("has", "dedup"),
    ("claimMany", "dedup"),
    ("maxIdLength", "dedup"),
];

fn infer(scenario: &Value) -> Option<String> {
    let steps = scenario["steps"].as_array()?;
    let mut words: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["op"].as_str())
        .collect();
    let everywhere = words
        .iter()
        .all(|op| ["new", "size", "clear", "tick"].contains(op));
    let built = steps
        .iter()
        .filter(|step| step["op"] == "new")
        .map(|step| &step["args"][0]);
    for options in core::iter::once(&scenario["options"]).chain(built) {
        words.extend(
            options
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str()),
        );
    }
    let mut plugins = words
        .iter()
        .filter_map(|word| TELLING.iter().find(|(telling, _)| telling == word))
        .map(|(_, plugin)| *plugin);
    let Some(first) = plugins.next() else {
        // Nothing happens in which two plugins that know these words would differ.
        return everywhere.then(|| {
            if words.contains(&"ttl") {
                "session"
            } else {
                "queue"
            }
            .into()
        });
    };
    plugins
        .all(|plugin| plugin == first)
        .then(|| first.to_owned())
}

/// The error of a key that the engine refused.
fn key_error(error: KeyError, subject: &str, option: &str) -> Value {
    match error {
        KeyError::TooLong { units, units_max } => json!({
            "rule": "too-long", "subject": subject,
            "length": units, "option": option, "max": units_max,
        }),
        _ => rule("non-empty-string", subject),
    }
}

/// Text, or what a plugin says of anything else.
fn text<'a>(args: &'a [Value], at: usize, subject: &str) -> Result<&'a str, Value> {
    let text = args.get(at).and_then(Value::as_str);
    text.ok_or_else(|| rule("non-empty-string", subject))
}

/// An option that must be there and pass a test.
fn finite(options: &Value, name: &str, least: f64, code: &str) -> Result<f64, Value> {
    let value = options.get(name).and_then(number);
    let fits = value.filter(|value| value.is_finite() && *value >= least);
    fits.ok_or_else(|| rule(code, name))
}

/// Whether an optional argument was left out.
fn absent(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || is_undefined(value))
}

/// The delay of a timer of a JavaScript host: whole milliseconds, at least one.
fn timer_delay(ms: f64) -> u64 {
    // A float that is too large becomes the largest integer.
    (ms.trunc() as u64).max(1)
}

fn limit(value: Option<u64>, default: usize) -> usize {
    value.map_or(default, |value| {
        usize::try_from(value).unwrap_or(usize::MAX)
    })
}
