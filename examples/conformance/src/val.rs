//! Modules `val` and `wrp`: calls whose arguments or callers are checked first.

use millstream_core::RawJson;
use millstream_live::{Issue, LiveError, Module, Rest};
use serde::Serialize;
use serde_json::Value;

use crate::ctl::Cx;
use crate::identity::Identity;
use crate::policies;
use crate::st::guarded;
use crate::state::Shared;

/// Module `val`.
pub(crate) fn module() -> Module<Shared, Identity> {
    Module::new("val").call("item", item)
}

/// Module `wrp`, as far as it is built.
pub(crate) fn wrapped() -> Module<Shared, Identity> {
    policies::wrapped(guarded::gated(Module::new("wrp")))
}

/// The checked value: trimmed, coerced, without members that mean nothing here.
#[derive(Serialize)]
struct Item {
    name: String,
    qty: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Checked {
    value: Item,
    rest: Vec<RawJson>,
}

async fn item(_: Cx, value: Value, rest: Rest) -> Result<Checked, LiveError> {
    let value = check(&value).map_err(LiveError::validation)?;
    Ok(Checked {
        value,
        rest: rest.0,
    })
}

/// Everything that is wrong, not only the first.
fn check(value: &Value) -> Result<Item, Vec<Issue>> {
    let Value::Object(members) = value else {
        return Err(vec![Issue::new([""; 0], "must be an object")]);
    };
    let mut issues = Vec::new();
    let name = members.get("name").and_then(Value::as_str).map(str::trim);
    let name = name.filter(|name| (1..=10).contains(&name.encode_utf16().count()));
    if name.is_none() {
        issues.push(Issue::new(["name"], "must be a text of 1 to 10 characters"));
    }
    let qty = members.get("qty").map_or(Some(1), whole);
    if qty.is_none() {
        issues.push(Issue::new(["qty"], "must be a whole number from 1"));
    }
    let tags = members.get("tags").and_then(|tags| match tags {
        Value::Array(tags) => Some(texts(tags, &mut issues)),
        _ => {
            issues.push(Issue::new(["tags"], "must be a list"));
            None
        }
    });
    match (name, qty) {
        (Some(name), Some(qty)) if issues.is_empty() => Ok(Item {
            name: name.to_owned(),
            qty,
            tags,
        }),
        _ => Err(issues),
    }
}

fn whole(value: &Value) -> Option<u64> {
    let number = match value {
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok()
        }
        other => other.as_u64(),
    };
    number.filter(|number| *number >= 1)
}

fn texts(list: &[Value], issues: &mut Vec<Issue>) -> Vec<String> {
    let mut texts = Vec::with_capacity(list.len());
    for (position, value) in list.iter().enumerate() {
        match value.as_str() {
            Some(text) => texts.push(text.to_owned()),
            None => issues.push(Issue::new(
                ["tags".to_owned(), position.to_string()],
                "must be a text",
            )),
        }
    }
    texts
}
