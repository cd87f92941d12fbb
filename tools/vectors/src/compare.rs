//! When an observation equals an expectation, and how a whole file is checked.

use serde_json::{Map, Value};

use crate::{Engine, run};

/// Whether an observation is the expected one: members in any order, numbers by value, timers
/// that fall on one instant in any order between each other.
#[must_use]
pub fn same(expected: &Value, observed: &Value) -> bool {
    normal(expected) == normal(observed)
}

/// Runs every scenario of a file against `E`, except those tagged `js-only`.
///
/// A scenario may carry `departs: {why, expect}`: what this implementation does on purpose instead
/// of `expect`. It must then differ from `expect` indeed, and be tagged as one that may.
///
/// # Panics
/// With the first differences, when there are any.
pub fn check<E: Engine>(file: &str) {
    let scenarios: Vec<Value> = serde_json::from_str(file).expect("a list of scenarios");
    let mut failures = Vec::new();
    let mut played = 0;
    for scenario in &scenarios {
        if tagged(scenario, "js-only") {
            continue;
        }
        played += 1;
        let observed = run::<E>(scenario);
        failures.extend(judge(scenario, &observed));
    }
    assert!(played > 0, "no scenario was played");
    assert!(
        failures.is_empty(),
        "{} of {played} scenarios differ\n{}",
        failures.len(),
        failures.into_iter().take(5).collect::<Vec<_>>().join("\n")
    );
}

fn tagged(scenario: &Value, tag: &str) -> bool {
    scenario["tags"]
        .as_array()
        .is_some_and(|tags| tags.iter().any(|have| have == tag))
}

fn judge(scenario: &Value, observed: &[Value]) -> Option<String> {
    let name = &scenario["name"];
    let original = scenario["expect"].as_array().expect("expectations");
    let Some(departs) = scenario.get("departs") else {
        return difference(original, observed).map(|text| format!("{name}: {text}"));
    };
    let may = ["quirk", "order", "host-timer"]
        .iter()
        .any(|tag| tagged(scenario, tag));
    if !may || departs["why"].as_str().is_none_or(str::is_empty) {
        return Some(format!(
            "{name}: departs without a tag that allows it, or without why"
        ));
    }
    if difference(original, observed).is_none() {
        return Some(format!("{name}: says that it departs, but does not"));
    }
    let ours = departs["expect"].as_array().expect("expectations");
    difference(ours, observed).map(|text| format!("{name} (departs): {text}"))
}

fn difference(expected: &[Value], observed: &[Value]) -> Option<String> {
    if expected.len() != observed.len() {
        return Some(format!(
            "{} steps, {} observed",
            expected.len(),
            observed.len()
        ));
    }
    let mut pairs = expected.iter().zip(observed).enumerate();
    let (step, (want, got)) = pairs.find(|(_, (want, got))| !same(want, got))?;
    Some(format!("step {step}\n  expected {want}\n  observed {got}"))
}

/// Numbers as floats, timers of one instant sorted, `null` error details dropped.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        Value::Object(members) => {
            let mut normalised = Map::new();
            for (name, member) in members {
                let mut member = normal(member);
                if name == "timers"
                    && let Value::Array(batches) = &mut member
                {
                    batches.sort_by(|a, b| order(a).partial_cmp(&order(b)).expect("no NaN"));
                }
                normalised.insert(name.clone(), member);
            }
            Value::Object(normalised)
        }
        other => other.clone(),
    }
}

fn order(batch: &Value) -> (f64, String) {
    (
        batch["atMs"].as_f64().unwrap_or_default(),
        batch.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn timers_of_one_instant_may_swap_and_effects_may_not() {
        let one = json!({"timers": [{"atMs": 1, "frames": [1]}, {"atMs": 1, "frames": [2]}]});
        let two = json!({"timers": [{"atMs": 1, "frames": [2]}, {"atMs": 1.0, "frames": [1.0]}]});
        assert!(same(&one, &two));
        assert!(!same(
            &json!({"frames": [1, 2]}),
            &json!({"frames": [2, 1]})
        ));
    }

    #[test]
    fn a_departure_needs_a_tag_and_a_difference() {
        let mut scenario = json!({"name": "x", "expect": [{"ret": 1}], "departs":
            {"why": "better", "expect": [{"ret": 2}]}, "tags": ["quirk"]});
        assert!(judge(&scenario, &[json!({"ret": 2})]).is_none());
        assert!(judge(&scenario, &[json!({"ret": 1})]).is_some());
        assert!(judge(&scenario, &[json!({"ret": 3})]).is_some());
        scenario["tags"] = json!([]);
        assert!(judge(&scenario, &[json!({"ret": 2})]).is_some());
    }
}
