//! The engines do what the vectors say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod driver;

use driver::{CursorRig, GroupRig, PresenceRig};
use millstream_vectors::check;
use serde_json::Value;

const PRESENCE: &str = include_str!("../../../vectors/presence.json");
const CURSOR: &str = include_str!("../../../vectors/cursor.json");
const GROUPS: &str = include_str!("../../../vectors/groups.json");

#[test]
fn presence() {
    check::<PresenceRig>(PRESENCE);
}

#[test]
fn cursor() {
    check::<CursorRig>(CURSOR);
}

#[test]
fn groups() {
    check::<GroupRig>(GROUPS);
}

/// A scenario that does not name its plugin is played by the right engine or refused.
#[test]
fn plugins_are_inferred() {
    for (plugin, file) in [
        ("presence", PRESENCE),
        ("cursor", CURSOR),
        ("groups", GROUPS),
    ] {
        let scenarios: Vec<Value> = serde_json::from_str(file).unwrap();
        let mut refused = 0;
        for scenario in &scenarios {
            let mut named = scenario.clone();
            named["plugin"] = plugin.into();
            driver::observe(&mut named).unwrap();
            let mut inferred = scenario.clone();
            if driver::observe(&mut inferred).is_ok() {
                assert_eq!(named["expect"], inferred["expect"], "{}", scenario["name"]);
            } else {
                refused += 1;
            }
        }
        assert!(refused <= 1, "{plugin}: {refused} refused");
    }
    let mut unknown = serde_json::json!({"steps": [], "plugin": "nonsense"});
    assert!(driver::observe(&mut unknown).is_err());
}
