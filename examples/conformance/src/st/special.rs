//! Streams with a life of their own: slow, failing, hooked, paged, checked, versioned.

use std::time::Duration;

use millstream_core::RawJson;
use millstream_live::{Args, Issue, LiveError, Merge, Page, Stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{OurStream, Space, constant, on};
use crate::ctl::Cx;

pub(super) fn slow() -> OurStream {
    on("slowly").load(async |ctx: Cx, Space(space): Space, ms: Option<u64>| {
        let rows = ctx.state().rows("slowly", &space);
        sleep(Duration::from_millis(ms.unwrap_or(300))).await;
        Ok(rows)
    })
}

pub(super) fn failing() -> OurStream {
    on("failing")
        .load(async |ctx: Cx, Space(space): Space| {
            match ctx.state().flag(&format!("fail:{space}")) {
                None => Ok(ctx.state().rows("failing", &space)),
                Some(flag) if flag.as_str() == r#""plain""# => {
                    Err(LiveError::internal("untyped on purpose"))
                }
                Some(_) => Err(LiveError::new("LOAD_FAILED", "the loader failed")),
            }
        })
        .on_error(observe)
}

/// Adds the code of a typed error, or the text of another, to the topic's log.
pub(super) fn observe(ctx: &Cx, topic: &str, error: &LiveError) {
    let text = match error.cause() {
        Some(cause) => cause.to_string(),
        None => error.code().to_owned(),
    };
    ctx.state().log(&format!("observer:{topic}"), text);
}

pub(super) fn shaped(stream: OurStream) -> OurStream {
    stream.on_error(observe).transform(|mut row: Value| {
        if row["poison"] == true {
            return Err(LiveError::internal("poisoned"));
        }
        if let Value::Object(members) = &mut row {
            members.remove("secret");
            members.insert("shaped".to_owned(), json!(true));
        }
        Ok(row)
    })
}

pub(super) fn hooked() -> OurStream {
    let user = |ctx: &Cx| {
        let id = ctx.user().and_then(|user| user.id.clone());
        id.unwrap_or_else(|| "anonymous".to_owned())
    };
    on("hooked")
        .load(async |ctx: Cx, Space(space): Space| {
            ctx.state().log(&format!("hooked:{space}"), "load");
            match ctx.state().flag(&format!("fail:{space}")) {
                None => Ok(ctx.state().rows("hooked", &space)),
                Some(_) => Err(LiveError::new("LOAD_FAILED", "the loader failed")),
            }
        })
        .on_subscribe(move |ctx, topic| async move {
            ctx.state().log(&topic, format!("on {}", user(&ctx)));
        })
        .on_unsubscribe(move |ctx, topic, remaining| async move {
            ctx.state()
                .log(&topic, format!("off {} {remaining}", user(&ctx)));
        })
}

pub(super) fn fixed() -> OurStream {
    Stream::fixed("fixed:main").load(async |_: Cx| Ok(json!([{"id": "seed"}])))
}

/// Ten rows, four a page; the cursor is the last id sent.
pub(super) fn pages(kind: &'static str) -> OurStream {
    on(kind).load(async |ctx: Cx, _: Space| {
        let after = ctx
            .cursor()
            .and_then(|cursor| cursor.as_f64())
            .unwrap_or(0.0);
        let data: Vec<Value> = (1..=10_u32)
            .filter(|id| f64::from(*id) > after)
            .take(4)
            .map(|id| json!({ "id": id }))
            .collect();
        let cursor = match data.last() {
            Some(row) => RawJson::from_serialize(&row["id"])?,
            None => ctx
                .cursor()
                .map_or(RawJson::NULL, |cursor| cursor.to_owned()),
        };
        let has_more = data.last().is_some_and(|row| row["id"] != 10);
        Ok(Page {
            data,
            has_more,
            cursor: Some(cursor),
        })
    })
}

pub(super) fn args() -> OurStream {
    Stream::computed(|_: &Cx, args: &Args| {
        let mut parts = args.iter().map(|arg| match arg.as_json_str() {
            Some(text) => text.to_cow().into_owned(),
            None => arg.as_str().to_owned(),
        });
        let (space, n) = (parts.next(), parts.next());
        Ok(format!(
            "args:{}:{}",
            space.unwrap_or_default(),
            n.unwrap_or_default()
        ))
    })
    .merge(Merge::Set)
    .args(check)
    .load(async |_: Cx, _: String, n: Value| Ok(json!({"n": n, "isNumber": n.is_number()})))
}

/// A space of plain characters and a digit, which may come as text.
fn check(args: Args) -> Result<Args, LiveError> {
    let mut issues = Vec::new();
    let space = args.get(0).and_then(|space| space.as_json_str());
    let space = space.map(|space| space.to_cow().into_owned());
    let plain = |text: &str| {
        (1..=40).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !space.as_deref().is_some_and(plain) {
        issues.push(Issue::new(
            ["0"],
            "must be a text of letters, digits and dashes",
        ));
    }
    let digit = args.get(1).and_then(|n| match n.as_json_str() {
        Some(text) => text.to_cow().parse::<u64>().ok(),
        None => n.as_u64(),
    });
    let digit = digit.filter(|digit| *digit <= 9);
    if digit.is_none() {
        issues.push(Issue::new(["1"], "must be a whole number from 0 to 9"));
    }
    if !issues.is_empty() {
        return Err(LiveError::validation(issues));
    }
    let list = RawJson::from_serialize(&json!([space, digit]))?;
    Ok(Args::from_list(list.get()))
}

pub(super) fn versioned() -> OurStream {
    let step = |name: &'static str| {
        move |mut row: Value| {
            row[name] = json!(true);
            Ok(row)
        }
    };
    constant(
        "versioned",
        json!([{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]),
    )
    .version(3)
    .migrate(1, step("step1"))
    .migrate(2, step("step2"))
}

pub(super) fn shaped_pages() -> OurStream {
    let page = json!({"data": [{"id": 1, "secret": "x"}], "hasMore": false, "cursor": 1});
    constant("shapedpages", page)
        .topics("shapedpages:*")
        .transform(|row: Value| Ok(json!({"id": row["id"], "shaped": true})))
}
