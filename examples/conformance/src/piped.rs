//! Module `wrp`: streams whose first value goes through steps.

use millstream_live::{Module, Order, Page, Pipe, Stream};
use serde_json::{Value, json};

use crate::ctl::Cx;
use crate::identity::Identity;
use crate::st::Space;
use crate::state::Shared;

pub(crate) fn module() -> Module<Shared, Identity> {
    Module::new("wrp")
        .stream("piped", piped())
        .stream("pipedPages", pages())
}

fn visible() -> Pipe<Shared, Identity> {
    Pipe::new().filter(async |_, row: Value| Ok(row["hidden"] != true))
}

fn piped() -> Stream<Shared, Identity> {
    Stream::by(|Space(space): Space| format!("piped:{space}"))
        .load(async |_: Cx, _: Space| {
            let row = |id, rank, hidden, author| {
                json!({"id": id, "rank": rank, "hidden": hidden, "author": author})
            };
            Ok([
                row(1, 5, false, "u1"),
                row(2, 9, true, "u2"),
                row(3, 7, false, "u2"),
                row(4, 1, false, "u1"),
                row(5, 6, false, "u3"),
            ])
        })
        .pipe(
            visible()
                .sort("rank", Order::Descending)
                .limit(3)
                .join(
                    "author",
                    async |_, author: String| Ok(author.to_uppercase()),
                    "authorName",
                ),
        )
}

fn pages() -> Stream<Shared, Identity> {
    Stream::by(|Space(space): Space| format!("pipedpages:{space}"))
        .load(async |_: Cx, _: Space| {
            Ok(Page {
                data: vec![
                    json!({"id": 1, "hidden": true}),
                    json!({"id": 2, "hidden": false}),
                ],
                has_more: true,
                cursor: Some(2),
            })
        })
        .pipe(visible())
}
