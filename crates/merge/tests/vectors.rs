//! The vectors of the JavaScript original, through the same code as the driver.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

#[path = "common/driver.rs"]
mod driver;

use serde_json::Value;

/// Plays each scenario and compares. One with `departs` must differ from `expect` and be as
/// `departs` says.
fn check(file: &str, at_least: usize) {
    let scenarios: Vec<Value> = serde_json::from_str(file).unwrap();
    assert!(scenarios.len() >= at_least);
    for scenario in &scenarios {
        let name = &scenario["name"];
        let observed = driver::observe(&scenario.to_string()).unwrap();
        let observed: Value = serde_json::from_str(&observed).unwrap();
        let mut wanted = scenario;
        if let Some(departs) = scenario.get("departs") {
            assert!(
                scenario.get("defect").is_some(),
                "{name}: departs without a defect"
            );
            assert!(
                departs["why"].as_str().is_some_and(|why| !why.is_empty()),
                "{name}: why?"
            );
            assert_ne!(
                scenario["expect"], observed["expect"],
                "{name}: does not depart"
            );
            wanted = departs;
        }
        for member in ["expect", "notified", "throws"] {
            assert_eq!(wanted.get(member), observed.get(member), "{name}: {member}");
        }
    }
}

#[test]
fn crud() {
    check(include_str!("../../../vectors/merge/crud.json"), 60);
}

#[test]
fn latest() {
    check(include_str!("../../../vectors/merge/latest.json"), 20);
}

#[test]
fn set() {
    check(include_str!("../../../vectors/merge/set.json"), 20);
}

#[test]
fn presence() {
    check(include_str!("../../../vectors/merge/presence.json"), 20);
}

#[test]
fn cursor() {
    check(include_str!("../../../vectors/merge/cursor.json"), 20);
}

#[test]
fn frames() {
    check(include_str!("../../../vectors/merge/frames.json"), 20);
}
