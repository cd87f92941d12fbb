//! The frames and replies observed on the original, and what differs on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a module shared with the driver"
)]

mod host;

use millstream_vectors::same;
use serde_json::Value;

#[test]
fn every_exchange_is_the_originals_or_the_better_one() {
    let file: Value =
        serde_json::from_str(include_str!("../../../vectors/frames-binary.json")).unwrap();
    let entries = file["entries"].as_array().unwrap();
    let mut failures = Vec::new();
    for entry in entries {
        let name = entry["name"].as_str().unwrap();
        let departs = &entry["departs"];
        assert!(
            departs.is_null() || entry["defect"].is_string(),
            "{name}: may not depart"
        );
        assert!(
            departs.is_null() || departs["why"].is_string(),
            "{name}: departs without why"
        );
        let mut differs = false;
        for (member, observed) in host::observe(entry).unwrap() {
            let original = &entry[&member];
            let ours = departs["expect"].get(&member).unwrap_or(original);
            if !same(ours, &observed) {
                failures.push(format!(
                    "{name}: {member}\n  expected {ours}\n  observed {observed}"
                ));
            }
            differs |= !same(original, &observed);
        }
        assert!(
            departs.is_null() || differs,
            "{name}: says that it departs, but does not"
        );
    }
    assert_eq!(entries.len(), 94);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
