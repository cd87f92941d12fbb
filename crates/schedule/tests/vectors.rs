//! The recorded entries of the original, and what ours must do where it is wrong.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;

#[path = "support/observe.rs"]
mod observe;

#[test]
fn every_entry_is_as_required() {
    let file: Value = serde_json::from_str(include_str!("../../../vectors/cron.json")).unwrap();
    let entries = file["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 271);
    let mut classic = 0;
    for entry in entries {
        let ours = observe::matches(entry).unwrap();
        let (valid, matches) = (ours.is_ok(), ours == Ok(true));
        let is = |want: &Value| want["valid"] == valid && (!valid || want["matches"] == matches);
        if is(&entry["expected"]) {
            continue;
        }
        // Ranges and steps inside of lists, and steps of ranges, are read as classic cron does.
        assert!(is(&entry["allowedAlternative"]), "{entry}: {ours:?}");
        classic += 1;
    }
    assert_eq!(classic, 10);
}
