//! What this crate makes of one entry of the cron vectors, shared by the tests and the driver.

use millstream_schedule::{Schedule, Zone};
use serde_json::{Value, json};

/// Whether the entry's expression matches at its instant, or why it is refused.
///
/// # Errors
/// What is missing in the entry.
pub(crate) fn matches(entry: &Value) -> Result<Result<bool, String>, String> {
    let text = entry["expr"].as_str().ok_or("no expr")?;
    let at_ms = match entry["atMs"].as_i64() {
        Some(at_ms) => at_ms,
        None => {
            let at = entry["at"].as_str().ok_or("neither atMs nor at")?;
            let at: jiff::Timestamp = at.parse().map_err(|_| "at is no instant")?;
            at.as_millisecond()
        }
    };
    let by_minute = match entry["tick"].as_str() {
        Some("1s") => false,
        Some("60s") | None => true,
        Some(other) => return Err(format!("tick {other:?}")),
    };
    let zone = match Zone::get(entry["tz"].as_str().unwrap_or("UTC")) {
        Ok(zone) => zone,
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(match Schedule::parse(text, zone) {
        // A minute tick serves expressions without seconds only.
        Ok(schedule) if by_minute && !schedule.cron().has_seconds() => {
            Ok(schedule.matches_minute(at_ms))
        }
        Ok(schedule) => Ok(schedule.matches(at_ms)),
        Err(error) => Err(error.to_string()),
    })
}

/// Puts what was observed into the entry: `expect` and `expected`.
///
/// # Errors
/// What is missing in the entry.
#[allow(dead_code, reason = "used by the driver only")]
pub(crate) fn fill_in(entry: &mut Value) -> Result<(), String> {
    match matches(entry)? {
        Ok(matches) => {
            entry["expect"] = json!({ "matches": matches });
            entry["expected"] = json!({"valid": true, "matches": matches});
        }
        Err(reason) => {
            entry["expect"] = json!({ "rejected": reason });
            entry["expected"] = json!({ "valid": false });
        }
    }
    Ok(())
}
