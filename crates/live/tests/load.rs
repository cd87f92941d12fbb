//! Loading without a connection, and pages, which only read.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use millstream_live::testing::Testbed;
use millstream_live::{App, Args, Ctx, LiveError, Load, Module, Page, Stream, code};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Log = Mutex<Vec<String>>;
type Cx = Ctx<Log, String>;

async fn pages(ctx: Cx) -> Result<Page<Value, u64>, LiveError> {
    let at = ctx.cursor().and_then(|cursor| cursor.as_u64()).unwrap_or(0);
    if at == 3 {
        return Err(LiveError::new("TORN", "the page is torn"));
    }
    ctx.state().lock().push(format!("page {at}"));
    Ok(Page {
        data: vec![json!({"id": at})],
        has_more: true,
        cursor: Some(at + 1),
    })
}

fn app() -> App<Log, String> {
    let pages = Stream::fixed("pages")
        .load(pages)
        .on_subscribe(async |ctx: Cx, _: Arc<str>| ctx.state().lock().push("on".to_owned()))
        .on_unsubscribe(async |ctx: Cx, _: Arc<str>, _| ctx.state().lock().push("off".to_owned()))
        .on_error(|ctx: &Cx, topic: &str, error: &LiveError| {
            ctx.state().lock().push(format!("{topic} {}", error.code()));
        });
    App::new(Log::default())
        .module(Module::new("book").stream("pages", pages))
        .layer(|ctx: Cx, next| async move {
            ctx.state().lock().push("layer".to_owned());
            next.run(ctx).await
        })
        .before_execute(|ctx: Cx, _| async move {
            ctx.state().lock().push("before".to_owned());
            Ok(())
        })
        .build()
        .unwrap()
}

fn log(bed: &Testbed<Log, String>) -> Vec<String> {
    std::mem::take(&mut *bed.state().lock())
}

#[test]
fn a_further_page_subscribes_nothing() {
    let mut bed = Testbed::new(app());
    let ada = bed.connect("ada".to_owned());
    let book = bed.subscribe(ada, "book/pages", ());
    assert_eq!(log(&bed), ["layer", "before", "on", "page 0"]);
    assert!(bed.load_more(book).unwrap());
    assert!(bed.load_more(book).unwrap());
    assert_eq!(bed.value(book), json!([{"id": 0}, {"id": 1}, {"id": 2}]));
    assert_eq!(
        log(&bed),
        ["layer", "before", "page 1", "layer", "before", "page 2"]
    );
    // A page that fails costs nothing but itself.
    assert_eq!(bed.load_more(book).unwrap_err().code, "TORN");
    assert_eq!(log(&bed), ["layer", "before", "pages TORN"]);
    bed.publish("pages", "created", &json!({"id": 9}));
    assert_eq!(bed.value(book).as_array().unwrap().len(), 4);
    bed.disconnect(ada);
    assert_eq!(log(&bed), ["off"], "one subscription, one end");
}

#[test]
fn a_page_of_a_stream_that_is_not_held_subscribes() {
    let mut bed = Testbed::new(app());
    let ada = bed.connect("ada".to_owned());
    bed.send_text(
        ada,
        r#"{"rpc":"book/pages","id":"p","args":[],"stream":true,"cursor":1}"#,
    );
    bed.settle();
    assert_eq!(log(&bed), ["layer", "before", "on", "page 1"]);
}

#[test]
fn loading_runs_layers_and_no_hooks() {
    let mut bed = Testbed::new(app());
    let load = |path: &str, user: Option<&str>| Load {
        path: path.to_owned(),
        args: Args::NONE,
        cursor: None,
        user: user.map(str::to_owned),
    };
    let (live, wanted) = (bed.live(), load("book/pages", None));
    let loaded = bed
        .run(async move { live.load(wanted).await })
        .unwrap()
        .unwrap();
    assert_eq!(
        loaded.as_str(),
        r#"{"data":[{"id":0}],"hasMore":true,"cursor":1}"#
    );
    assert_eq!(log(&bed), ["layer", "page 0"]);
    let (live, torn) = (bed.live(), load("book/pages", Some("ada")));
    let torn = Load {
        cursor: Some(millstream_core::RawJson::from_serialize(&3).unwrap()),
        ..torn
    };
    let error = bed.run(async move { live.load(torn).await }).unwrap_err();
    assert_eq!(error.code(), "TORN");
    assert_eq!(log(&bed), ["layer", "pages TORN"]);
    let live = bed.live();
    let missing = load("book/none", None);
    let error = bed
        .run(async move { live.load(missing).await })
        .unwrap_err();
    assert_eq!(error.code(), code::NOT_FOUND);
}
