//! States taken in and handed out.

use millstream_core::{RawJson, RawJsonRef};

use crate::{Aggregate, Now, SnapshotError, Stats, js};

/// Refused fields that an error names.
const REFUSED_MAX: usize = 64;

/// Names that would reach into the prototype of an object in a JavaScript client.
const SKIPPED: [&str; 3] = ["__proto__", "constructor", "prototype"];

impl Aggregate {
    /// Declares that a snapshot of this window is being loaded: until [`hydrate`](Self::hydrate) or
    /// [`abandon`](Self::abandon) its events are held back, within limits.
    ///
    /// # Errors
    /// [`SnapshotError::NoWindow`] for an unknown or sliding window, [`SnapshotError::Late`] when
    /// it has counted events already.
    pub fn await_snapshot(&mut self, window: &str) -> Result<(), SnapshotError> {
        let index = self.takes_snapshots(window)?;
        if let Some(window) = self.windows.get_mut(index) {
            window.hydrating = true;
        }
        self.find_live();
        Ok(())
    }

    /// Whether this window waits for its snapshot.
    #[must_use]
    pub fn is_hydrating(&self, window: &str) -> bool {
        let index = self.index(window);
        index.is_some_and(|index| {
            self.windows
                .get(index)
                .is_some_and(|window| window.hydrating)
        })
    }

    /// Takes in a snapshot in the plain form, once and before the first event: an object of
    /// fields. Fields that are not in it keep
    /// their starting value; what no reducer knows is shown as it is until the next reset. Nothing
    /// is put out, unless events were held back: they are applied on top and put out as one.
    ///
    /// # Errors
    /// [`SnapshotError`]. Except for [`SnapshotError::Fields`] nothing was taken in, and the window
    /// no longer waits: its held-back events count without the snapshot.
    pub fn hydrate(
        &mut self,
        now: Now,
        window: &str,
        snapshot: RawJsonRef<'_>,
    ) -> Result<(), SnapshotError> {
        self.advance(now);
        let index = self.takes_snapshots(window)?;
        self.settle();
        let taken = self.take_in(index, snapshot, false);
        match taken {
            Ok(()) | Err(SnapshotError::Fields { .. }) => self.stats.snapshots += 1,
            Err(_) => self.stats.snapshots_abandoned += 1,
        }
        if self.release(index) {
            self.show(index);
        }
        taken
    }

    /// There is no snapshot of this window after all: held-back events count without it.
    pub fn abandon(&mut self, now: Now, window: &str) {
        self.advance(now);
        let Some(index) = self.index(window).filter(|_| self.is_hydrating(window)) else {
            return;
        };
        self.settle();
        self.stats.snapshots_abandoned += 1;
        if self.release(index) {
            self.show(index);
        }
    }

    /// All windows but the sliding ones, with everything needed to go on: version 1 of
    /// `{"version":1,"windows":{name:{"end":wall_ms,"fields":{...}}}}`. `end` is that of a tumbling
    /// window; the single state has an empty name.
    #[must_use]
    pub fn snapshot(&self) -> RawJson {
        let mut out = String::from("{\"version\":1,\"windows\":{");
        let whole = |window: &crate::window::Window| window.kind.buckets().is_none();
        let mut first = true;
        for (index, window) in self.windows.iter().enumerate() {
            if !whole(window) {
                continue;
            }
            out.push_str(if first { "" } else { "," });
            first = false;
            out.push_str(&js::quote(&window.name));
            out.push_str(":{");
            if window.is_tumbling() {
                out.push_str("\"end\":");
                out.push_str(itoa::Buffer::new().format(window.end_ms));
                out.push(',');
            }
            out.push_str("\"fields\":{");
            let start = out.len();
            for field in self.fields() {
                let mark = out.len();
                out.push_str(if mark == start {
                    &field.key[1..]
                } else {
                    &field.key
                });
                if !field.column.save(index, &mut out) {
                    out.truncate(mark);
                }
            }
            for (token, json) in &window.extras {
                out.push_str(if out.len() == start { "" } else { "," });
                out.push_str(token);
                out.push(':');
                out.push_str(json);
            }
            out.push_str("}}");
        }
        out.push_str("}}");
        RawJson::parse_with_depth(out.into(), 128).unwrap_or(RawJson::NULL)
    }

    /// Takes in what [`snapshot`](Self::snapshot) gave, before the first event. A tumbling window
    /// that has ended since starts empty. Windows that are not in it, or not here, are passed over.
    ///
    /// # Errors
    /// [`SnapshotError`]; fields that do not fit are named as `window.field`.
    pub fn restore(&mut self, now: Now, snapshot: RawJsonRef<'_>) -> Result<(), SnapshotError> {
        self.each_saved(now, snapshot, |this, index, fields| {
            let name = this.windows.get(index).map(|window| window.name.clone());
            let name = name.unwrap_or_default();
            this.takes_snapshots(&name)?;
            let taken = this.take_in(index, fields, false);
            this.stats.snapshots += 1;
            if this.release(index) {
                this.show(index);
            }
            taken
        })
    }

    /// Adds what another instance counted to what this one has, field by field: sums add, extremes
    /// and maps join, sketches merge. What the other one has is taken as newer. At any time; shown
    /// with the next output.
    ///
    /// Each instance's snapshot may be absorbed once; twice counts twice.
    ///
    /// # Errors
    /// [`SnapshotError`]; fields that cannot be combined are named and left alone.
    pub fn absorb(&mut self, now: Now, snapshot: RawJsonRef<'_>) -> Result<(), SnapshotError> {
        self.each_saved(now, snapshot, |this, index, fields| {
            this.take_in(index, fields, true)
        })
    }

    fn each_saved(
        &mut self,
        now: Now,
        snapshot: RawJsonRef<'_>,
        mut each: impl FnMut(&mut Self, usize, RawJsonRef<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        self.advance(now);
        self.check_size(snapshot)?;
        let version = snapshot.field("version");
        if version.and_then(|version| version.as_u64()) != Some(1) {
            let got = version.map_or("missing", |version| version.as_str());
            let got = got.chars().take(32).collect();
            return Err(SnapshotError::Version { got });
        }
        self.settle();
        let windows = snapshot.field("windows").unwrap_or(RawJsonRef::NULL);
        let mut refused = Vec::new();
        for (name, saved) in windows.fields() {
            let Some(index) = self.index(&name.to_cow()) else {
                continue;
            };
            let (Some(window), Some(fields)) = (self.windows.get(index), saved.field("fields"))
            else {
                continue;
            };
            let end = saved.field("end").and_then(|end| end.as_str().parse().ok());
            if window.kind.buckets().is_some()
                || (window.is_tumbling() && end != Some(window.end_ms))
            {
                continue;
            }
            match each(self, index, fields) {
                Ok(()) => {}
                Err(SnapshotError::Fields { fields }) => {
                    let named = fields
                        .iter()
                        .map(|field| format!("{}.{field}", name.to_cow()));
                    refused.extend(named);
                }
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(SnapshotError::Fields { fields: refused })
    }

    fn takes_snapshots(&self, name: &str) -> Result<usize, SnapshotError> {
        let index = self.index(name).ok_or(SnapshotError::NoWindow)?;
        match self.windows.get(index) {
            Some(window) if window.kind.buckets().is_some() => Err(SnapshotError::NoWindow),
            Some(window) if window.touched => Err(SnapshotError::Late),
            _ => Ok(index),
        }
    }

    fn check_size(&self, snapshot: RawJsonRef<'_>) -> Result<(), SnapshotError> {
        if !snapshot.is_object() {
            return Err(SnapshotError::NotAnObject);
        }
        let (bytes, max) = (snapshot.as_str().len(), self.limits.snapshot_bytes_max);
        if bytes > max {
            return Err(SnapshotError::TooLarge { bytes, max });
        }
        Ok(())
    }

    /// Puts an object of fields into a window, or combines it with what is there.
    fn take_in(
        &mut self,
        index: usize,
        snapshot: RawJsonRef<'_>,
        combine: bool,
    ) -> Result<(), SnapshotError> {
        self.check_size(snapshot)?;
        if let Some(window) = self.windows.get_mut(index) {
            window.touched = true;
        }
        let extras_max = self.limits.reducers_max;
        let mut refused: Vec<String> = Vec::new();
        let mut refuse = |stats: &mut Stats, name: &str| {
            stats.snapshot_fields_refused += 1;
            if refused.len() < REFUSED_MAX {
                refused.push(name.chars().take(64).collect());
            }
        };
        for (key, saved) in snapshot.fields() {
            let name = key.to_cow();
            if SKIPPED.contains(&&*name) {
                continue;
            }
            let mut fields = self.fields_mut().iter_mut();
            if let Some(field) = fields.find(|field| *field.name == *name) {
                let taken = if combine {
                    field.column.absorb(index, saved)
                } else {
                    field.column.restore(index, saved)
                };
                if !taken {
                    refuse(&mut self.stats, &name);
                }
                continue;
            }
            let Some(window) = self.windows.get_mut(index) else {
                continue;
            };
            let token = js::quote(&name);
            let extras = &mut window.extras;
            let at = extras.iter().position(|(have, _)| **have == *token);
            match at {
                Some(at) => extras[at].1 = saved.as_str().into(),
                None if extras.len() >= extras_max => refuse(&mut self.stats, &name),
                None => extras.push((token.into(), saved.as_str().into())),
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(SnapshotError::Fields { fields: refused })
    }
}
