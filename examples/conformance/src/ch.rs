//! Module `ch`: topics without a first value.

use millstream_live::{Merge, Module, Stream};

use crate::identity::Identity;
use crate::st::Space;
use crate::state::Shared;

pub(crate) fn module() -> Module<Shared, Identity> {
    let fixed = |topic: &str| Stream::fixed(topic).merge(Merge::Set);
    let on = |kind: &'static str| Stream::by(move |Space(space): Space| format!("{kind}:{space}"));
    Module::new("ch")
        .stream("plain", fixed("chplain:main"))
        .stream("value", on("chvalue").merge(Merge::Set))
        .stream("list", on("chlist").merge(Merge::Crud))
        .stream("log", on("chlog").merge(Merge::Latest).max(3))
        .stream("who", on("chwho").merge(Merge::Presence))
        .stream("ptr", on("chptr").merge(Merge::Cursor))
        .stream("hooks", fixed("hook:in").merge(Merge::Latest).max(20))
}
