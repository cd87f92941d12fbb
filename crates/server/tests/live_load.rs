//! Loading streams without a connection, over HTTP.

mod common;

use common::{Running, ask_with, start};
use millstream_core::RawJson;
use millstream_live::{App, Arg, Ctx, LiveError, Merge, Module, Page, Stream, access};
use millstream_server::with_live;
use serde_json::{Value, json};

type Cx = Ctx<(), String>;

async fn rows(ctx: Cx, list: String) -> Result<Value, LiveError> {
    let secret = format!("{list} of {}", ctx.user().map_or("nobody", |user| user));
    Ok(json!([{"id": 1, "secret": secret}]))
}

async fn page(ctx: Cx) -> Result<Page<u64, u64>, LiveError> {
    let from = ctx.cursor().and_then(|cursor| cursor.as_u64()).unwrap_or(0);
    Ok(Page {
        data: vec![from + 1, from + 2],
        has_more: from < 4,
        cursor: Some(from + 2),
    })
}

async fn serve() -> Running {
    let shape = |row: Value| Ok(json!({"id": row["id"], "of": row["secret"]}));
    let open = Module::new("open")
        .stream(
            "rows",
            Stream::by(|list: String| format!("rows:{list}"))
                .topics("rows:*")
                .load(rows)
                .transform(shape)
                .args(|args| String::from_args(&mut args.cursor()).map(|_| args)),
        )
        .stream("page", Stream::fixed("page").load(page))
        .stream("chat", Stream::fixed("chat").merge(Merge::Latest))
        .stream("kept", Stream::fixed("kept").held().merge(Merge::Set))
        .stream(
            "off",
            Stream::fixed("off").load(page).gate(async |_, _| Ok(false)),
        )
        .stream(
            "mine",
            Stream::fixed("mine").load(page).access(access::owner()),
        )
        .stream(
            "broken",
            Stream::fixed("broken")
                .load(async |_: Cx| -> Result<(), LiveError> { panic!("secret") }),
        )
        .call("call", async |_: Cx| Ok(1));
    let closed = Module::new("closed")
        .authenticated()
        .stream("page", Stream::fixed("closed").load(page));
    let app = App::new(())
        .module(open)
        .module(closed)
        .build()
        .expect("valid");
    let hooks =
        with_live(app, ()).load_as(|user: RawJson| Ok(serde_json::from_str(user.as_str())?));
    start(hooks, |_| {}).await
}

async fn post(server: &Running, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let head = format!(
        "POST /api/load HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
         Content-Length: {}\n",
        body.len()
    );
    let reply = ask_with(server.address, &head, body.as_bytes()).await;
    (
        reply.status,
        serde_json::from_str(&reply.body).expect("JSON"),
    )
}

async fn load(server: &Running, path: &str, args: Value, user: Value) -> Value {
    let (status, body) = post(server, &json!({"path": path, "args": args, "user": user})).await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn a_stream_is_loaded_for_somebody() {
    let server = serve().await;
    let loaded = load(&server, "open/rows", json!(["a"]), json!("ada")).await;
    assert_eq!(
        loaded,
        json!({"ok": true, "data": [{"id": 1, "of": "a of ada"}]})
    );
    let loaded = load(&server, "open/rows", json!(["a"]), Value::Null).await;
    assert_eq!(loaded["data"][0]["of"], "a of nobody");
    let loaded = load(&server, "open/page", json!([]), Value::Null).await;
    assert_eq!(
        loaded["data"],
        json!({"data": [1, 2], "hasMore": true, "cursor": 2})
    );
    let body = json!({"path": "open/page", "cursor": 4, "user": null});
    let (_, next) = post(&server, &body).await;
    assert_eq!(
        next["data"],
        json!({"data": [5, 6], "hasMore": false, "cursor": 6})
    );
    assert_eq!(
        load(&server, "open/chat", json!([]), Value::Null).await["data"],
        json!([])
    );
    assert_eq!(
        load(&server, "open/off", json!([]), Value::Null).await["data"],
        Value::Null
    );
    let kept = load(&server, "open/kept", json!([]), Value::Null).await;
    assert_eq!(kept["data"], Value::Null, "{kept}");
}

#[tokio::test]
async fn what_guards_and_streams_refuse_is_refused() {
    let server = serve().await;
    for (path, args, user, code) in [
        ("no/such", json!([]), Value::Null, "NOT_FOUND"),
        ("open/call", json!([]), Value::Null, "INVALID_REQUEST"),
        ("open/rows", json!([7]), Value::Null, "VALIDATION"),
        ("open/mine", json!([]), Value::Null, "UNAUTHENTICATED"),
        ("closed/page", json!([]), Value::Null, "UNAUTHENTICATED"),
        ("open/broken", json!([]), Value::Null, "INTERNAL_ERROR"),
        ("open/page", json!([]), json!(5), "INTERNAL_ERROR"),
    ] {
        let reply = load(&server, path, args, user).await;
        assert_eq!(
            (&reply["ok"], &reply["code"]),
            (&json!(false), &json!(code)),
            "{path}: {reply}"
        );
        assert!(!reply.to_string().contains("secret"), "{reply}");
    }
    let known = load(&server, "closed/page", json!([]), json!("ada")).await;
    assert_eq!(known["ok"], true, "{known}");
}

#[tokio::test]
async fn requests_say_whose_page_it_is() {
    let server = serve().await;
    for (body, status, code) in [
        (json!({"path": "open/page"}), 400, "bad_request"),
        (
            json!({"path": "open/page", "user": null, "x": 1}),
            400,
            "bad_request",
        ),
        (
            json!({"path": "open/page", "user": null, "args": {}}),
            400,
            "bad_request",
        ),
        (json!([]), 400, "bad_request"),
    ] {
        let (answered, reply) = post(&server, &body).await;
        assert_eq!(
            (answered, &reply["error"]["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
    let server = start((), |_| {}).await;
    let (status, reply) = post(&server, &json!({"path": "a/b", "user": null})).await;
    assert_eq!(
        (status, &reply["error"]["code"]),
        (404, &json!("no_streams"))
    );
}
