//! Changes in the form of a delta reply.

use millstream_core::RawJson;
use millstream_core::write_json_str;

use crate::{Change, Merge, Strategy};

impl Merge<RawJson> {
    /// Appends what a change means to somebody who holds the value from before it, as elements of
    /// a delta reply's `data`: the item, or `{key, "_deleted": true}`. With a comma in front if
    /// `out` holds elements already (does not end with `[`).
    ///
    /// Evictions are not written: the same `max` makes the other side evict too.
    ///
    /// False, with nothing written, if the change cannot be said that way: the value was replaced,
    /// an item without a usable key is concerned, or the strategy is not `crud`. Send the whole
    /// value then.
    ///
    /// # Example
    /// ```
    /// # use millstream_core::RawJson;
    /// # use millstream_merge::{Limits, Merge, Options, Strategy};
    /// # let json = |text: &'static str| RawJson::parse(text.into()).unwrap();
    /// let mut rows = Merge::new(Options::new(Strategy::Crud), Limits::default());
    /// rows.load(json(r#"[{"id":1},{"id":2}]"#))?;
    /// let mut delta = b"[".to_vec();
    /// for (event, data) in [("updated", r#"{"id":2,"n":1}"#), ("deleted", r#"{"id":1}"#)] {
    ///     let change = rows.apply(event, json(data))?;
    ///     assert!(rows.write_delta(&change, &mut delta));
    /// }
    /// delta.push(b']');
    /// assert_eq!(delta, br#"[{"id":2,"n":1},{"id":1,"_deleted":true}]"#);
    /// # Ok::<(), millstream_merge::MergeError>(())
    /// ```
    #[must_use]
    pub fn write_delta(&self, change: &Change<RawJson>, out: &mut Vec<u8>) -> bool {
        if self.options().strategy != Strategy::Crud {
            return false;
        }
        let (item, removed) = match change {
            Change::Same | Change::Ignored => return true,
            Change::Inserted { at, .. } | Change::Replaced { at, .. } => (self.row(*at), false),
            Change::Removed { old, .. } => (Some(old), true),
            Change::Reset => return false,
        };
        let Some(item) = item.filter(|item| self.key_of(item).is_indexed()) else {
            return false;
        };
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
        if !removed {
            out.extend_from_slice(item.as_bytes());
            return true;
        }
        let field = self.options().key_field();
        let key = item.get().field(field);
        out.push(b'{');
        write_json_str(out, field);
        out.push(b':');
        out.extend_from_slice(key.map_or(b"null".as_slice(), |key| key.as_bytes()));
        out.extend_from_slice(br#","_deleted":true}"#);
        true
    }
}
