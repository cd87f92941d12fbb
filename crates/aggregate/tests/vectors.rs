//! The shared scenarios: what the original does, and what it should have done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

#[path = "common/scenario.rs"]
mod scenario;

use std::collections::BTreeMap;

use millstream_vectors::same;
use serde_json::Value;

macro_rules! files {
    ($($name:literal,)*) => {
        [$(($name, include_str!(concat!("../../../vectors/aggregate/", $name)))),*]
    };
}

/// Outputs of each topic in order: between topics the order at one instant is free.
fn by_topic(outputs: &Value) -> BTreeMap<String, Vec<Value>> {
    let mut topics: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for output in outputs.as_array().unwrap() {
        let topic = output["topic"].as_str().unwrap().to_owned();
        topics.entry(topic).or_default().push(output.clone());
    }
    topics
}

#[test]
fn the_scenarios_come_out_as_expected() {
    let mut failures = Vec::new();
    for (name, text) in FILES {
        let entry: Value = serde_json::from_str(text).unwrap();
        let mut observed = entry.clone();
        scenario::observe(&mut observed).unwrap();
        let (expected, observed) = (&entry["expected"], &observed["expected"]);
        let equal = observed.get("outputs").is_some() && {
            let want = by_topic(&expected["outputs"]);
            let got = by_topic(&observed["outputs"]);
            let as_json = |topics| serde_json::to_value(topics).unwrap();
            same(&as_json(want), &as_json(got)) && same(&expected["reads"], &observed["reads"])
        };
        if !equal {
            failures.push(format!(
                "{name}\n  expected {expected}\n  observed {observed}"
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} differ\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn what_must_be_rejected_is_and_says_why() {
    let file: Value =
        serde_json::from_str(include_str!("../../../vectors/aggregate/rejections.json")).unwrap();
    let mut rejected = 0;
    for entry in file["entries"].as_array().unwrap() {
        let mut observed = entry.clone();
        scenario::observe(&mut observed).unwrap();
        let message = observed["expected"]["rejected"].as_str();
        assert_eq!(
            message.is_some(),
            entry["required"] == "reject",
            "{}",
            entry["id"]
        );
        rejected += usize::from(message.is_some());
        for mention in entry["errorMustMention"].as_array().into_iter().flatten() {
            let (message, mention) = (message.unwrap(), mention.as_str().unwrap());
            assert!(
                message.contains(mention),
                "{}: {message:?} without {mention:?}",
                entry["id"]
            );
        }
    }
    assert!(rejected > 10);
}

const FILES: [(&str, &str); 67] = files![
    "001-single-count-sum-average.json",
    "002-single-compute-chain.json",
    "003-single-event-filter.json",
    "004-single-reduce-without-init.json",
    "005-single-max-min-null.json",
    "006-single-debounce.json",
    "007-single-snapshot.json",
    "008-snapshot-late-event-lost.json",
    "009-lifetime-basic.json",
    "010-lifetime-legacy-snapshot.json",
    "011-window-debounce-override.json",
    "012-shared-initial-state.json",
    "013-tumbling-minute-utc.json",
    "014-tumbling-minute-kolkata.json",
    "015-tumbling-hour-utc.json",
    "016-tumbling-hour-kolkata.json",
    "017-tumbling-hour-kathmandu.json",
    "018-tumbling-daily-utc-leap-day.json",
    "019-tumbling-daily-kolkata.json",
    "020-tumbling-daily-newyork-plain.json",
    "021-tumbling-daily-newyork-spring.json",
    "022-tumbling-daily-newyork-autumn.json",
    "023-tumbling-daily-berlin-spring.json",
    "024-tumbling-daily-berlin-autumn.json",
    "025-tumbling-daily-havana-spring.json",
    "026-tumbling-daily-lordhowe-plain.json",
    "027-tumbling-daily-lordhowe-spring.json",
    "028-tumbling-daily-lordhowe-autumn.json",
    "029-tumbling-daily-sydney-spring.json",
    "030-tumbling-daily-sydney-autumn.json",
    "031-tumbling-daily-beirut-spring.json",
    "032-tumbling-hour-newyork-spring.json",
    "033-tumbling-hour-newyork-autumn.json",
    "034-tumbling-hour-berlin-spring.json",
    "035-tumbling-hour-berlin-autumn.json",
    "036-tumbling-hour-lordhowe-spring.json",
    "037-tumbling-hour-lordhowe-autumn.json",
    "038-tumbling-minute-newyork-autumn.json",
    "039-tumbling-minute-berlin-spring.json",
    "040-tumbling-monthly-utc.json",
    "041-tumbling-monthly-year-end.json",
    "042-tumbling-monthly-newyork.json",
    "043-tumbling-monthly-berlin.json",
    "044-tumbling-monthly-kolkata.json",
    "045-tumbling-monthly-timer-overflow.json",
    "046-tumbling-duration-timer-overflow.json",
    "047-tumbling-duration-epoch.json",
    "048-tumbling-duration-anchor.json",
    "049-tumbling-duration-anchor-future.json",
    "050-tumbling-duration-register-on-boundary.json",
    "051-tumbling-duration-days.json",
    "052-tumbling-boundary-cancels-debounce.json",
    "053-tumbling-snapshot.json",
    "054-no-background-platform.json",
    "055-sliding-sum-decay.json",
    "056-sliding-single-bucket.json",
    "057-sliding-not-divisible.json",
    "058-sliding-max-min.json",
    "059-sliding-counts-top.json",
    "060-sliding-merge-first-lap.json",
    "061-sliding-merge-after-wrap.json",
    "062-sliding-debounce.json",
    "063-sliding-field-without-combine.json",
    "064-sliding-custom-combine.json",
    "065-sliding-fine-grained.json",
    "066-mixed-windows.json",
    "067-two-zones.json",
];
