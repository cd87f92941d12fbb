//! The streams of `vectors/rpc-frames.json`.

use millstream_core::RawJson;
use millstream_live::{Args, Ctx, Issue, LiveError, Merge, Module, Page, Stream, User};
use serde_json::{Value, json};

fn raw(value: &Value) -> RawJson {
    RawJson::from_serialize(value).expect("JSON")
}

async fn page<S, U: User>(ctx: Ctx<S, U>) -> Result<Page<Value, &'static str>, LiveError> {
    let cursor = ctx.cursor().and_then(|cursor| cursor.as_json_str());
    let id = cursor.map_or_else(|| json!(0), |cursor| json!(cursor.to_cow()));
    Ok(Page {
        data: vec![json!({ "id": id })],
        has_more: id != "end",
        cursor: Some("next"),
    })
}

fn one_text(args: Args) -> Result<Args, LiveError> {
    let only = args.get(0).and_then(|first| first.as_json_str());
    match only.filter(|_| args.iter().count() == 1) {
        Some(text) => {
            let list = raw(&json!([text.to_cow().to_lowercase()]));
            Ok(Args::from_list(list.get()))
        }
        None => Err(LiveError::validation(vec![Issue::new(
            ["0"],
            "one string argument",
        )])),
    }
}

fn rows<S: Send + Sync + 'static, U: User>(topic: &str, rows: Value) -> Stream<S, U> {
    Stream::fixed(topic).load(move |_: Ctx<S, U>| {
        let rows = rows.clone();
        async move { Ok(rows) }
    })
}

fn fails<S: Send + Sync + 'static, U: User>(topic: &str, error: fn() -> LiveError) -> Stream<S, U> {
    Stream::fixed(topic).load(move |_: Ctx<S, U>| async move { Err::<(), _>(error()) })
}

fn add(name: &'static str, value: i32) -> impl Fn(Value) -> Result<Value, LiveError> {
    move |mut row: Value| {
        row[name] = json!(value);
        Ok(row)
    }
}

fn with_delta<S: Send + Sync + 'static, U: User>(
    stream: Stream<S, U>,
    diff: fn(&str) -> Result<Option<Value>, LiveError>,
) -> Stream<S, U> {
    stream.delta(
        async |_, _| Ok(raw(&json!("v2"))),
        move |_, _, since: RawJson| async move {
            let since = since
                .get()
                .as_json_str()
                .map(|since| since.to_cow().into_owned());
            Ok(diff(&since.unwrap_or_default())?.as_ref().map(raw))
        },
    )
}

fn with_bridge<S: Send + Sync + 'static, U: User>(stream: Stream<S, U>) -> Stream<S, U> {
    stream.from_seq(async |_, _, since| {
        Ok(match since {
            5 => None,
            3 => Some(raw(&json!([]))),
            since => Some(raw(&json!([
                {"event": "created", "data": {"id": since + 1}, "seq": since + 1}
            ]))),
        })
    })
}

/// Adds them to the module `demo`.
pub(crate) fn add_to<S: Send + Sync + 'static, U: User>(module: Module<S, U>) -> Module<S, U> {
    let module = module
        .stream("stream", rows("items", json!([{"id": 1}, {"id": 2}])))
        .stream(
            "streamAll",
            rows("feed", json!([{"sku": 1}]))
                .key("sku")
                .prepend(true)
                .max(20),
        )
        .stream(
            "streamLatest",
            rows("log", json!([1, 2])).merge(Merge::Latest).max(3),
        )
        .stream("streamSet", rows("stat", json!({"n": 1})).merge(Merge::Set))
        .stream(
            "streamNone",
            Stream::fixed("none")
                .merge(Merge::Set)
                .load(async |_: Ctx<S, U>| Ok(())),
        )
        .stream(
            "streamPresence",
            rows("who", json!([])).merge(Merge::Presence),
        )
        .stream("page", Stream::fixed("page").load(page))
        .stream(
            "pageNoCursor",
            rows("pnc", json!({"data": [], "hasMore": false})),
        )
        .stream("channel", Stream::fixed("chan").merge(Merge::Set))
        .stream("channelCrud", Stream::fixed("chancrud").max(5));
    refused(shaped(recovering(module)))
}

fn shaped<S: Send + Sync + 'static, U: User>(module: Module<S, U>) -> Module<S, U> {
    let by_id = async |_: Ctx<S, U>, id: Value| Ok(json!([{ "id": id }]));
    module
        .stream(
            "dyn",
            Stream::by(|id: String| format!("dyn:{id}")).load(by_id),
        )
        .stream(
            "dynSystem",
            Stream::by(|_: String| "__x".to_owned()).load(by_id),
        )
        .stream(
            "args",
            Stream::by(|id: String| format!("args:{id}"))
                .args(one_text)
                .load(by_id),
        )
        .stream(
            "transform",
            rows("tr", json!([{"id": 1, "secret": 2}]))
                .transform(|row: Value| Ok(json!({"id": row["id"]}))),
        )
        .stream(
            "versioned",
            rows("ver", json!([{"id": 1, "v": 3}]))
                .version(3)
                .migrate(1, add("b", 1))
                .migrate(2, add("c", 2)),
        )
}

fn everything<S: Send + Sync + 'static, U: User>() -> Stream<S, U> {
    with_delta(rows("all", json!([{"id": 1}])), |since| {
        Ok((since == "v1").then(|| json!([{"id": 9}])))
    })
}

fn recovering<S: Send + Sync + 'static, U: User>(module: Module<S, U>) -> Module<S, U> {
    let changes = |since: &str| {
        Ok((since == "v1").then(|| json!([{"id": 1, "t": "x"}, {"id": 2, "_deleted": true}])))
    };
    let data = json!([{"id": 1}, {"id": 3}]);
    module
        .stream("delta", with_delta(rows("del", data), changes))
        .stream(
            "deltaCrash",
            with_delta(rows("delx", json!([{"id": 1}])), |_| {
                Err(LiveError::internal("diff"))
            }),
        )
        .stream("bridgeOnly", with_bridge(rows("bro", json!([{"id": 1}]))))
        .stream("replay", rows("rep", json!([{"id": 1}])).replay(3))
        .stream(
            "bridge",
            with_bridge(rows("bri", json!([{"id": 1}]))).replay(3),
        )
        .stream("everything", with_bridge(everything()).replay(3))
}

fn refused<S: Send + Sync + 'static, U: User>(module: Module<S, U>) -> Module<S, U> {
    module
        .stream(
            "access",
            rows("acc", json!(["secret"])).access(async |_, _| Ok(false)),
        )
        .stream(
            "gated",
            rows("gat", json!(["gated"])).gate(async |_, _| Ok(false)),
        )
        .stream("deniedForbidden", rows("deny:f", json!([])))
        .stream("deniedUnauth", rows("deny:u", json!([])))
        .stream("deniedCustom", rows("deny:k", json!([])))
        .stream("closed", rows("closed", json!([])))
        .stream(
            "loaderFail",
            fails("lf", || LiveError::new("GONE", "not here")),
        )
        .stream("loaderCrash", fails("lc", || LiveError::internal("secret")))
}
