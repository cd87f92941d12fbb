//! The rules of the five strategies.

use millstream_core::RawJson;
use smallvec::SmallVec;

use crate::frame::Scratch;
use crate::list::{List, Slot};
use crate::{Change, Evicted, Item, Key, Limits, MergeError, Options, Settings, Stats, Strategy};

/// A value and the rules by which events change it.
///
/// Load a value ([`load`](Self::load)), then [`apply`](Self::apply) events in order; each says what
/// it [`Change`]d. On a server this is the current state of a topic, written out for whoever
/// subscribes; in a client it is what a stream shows ([`Stream`](crate::Stream) adds changes in
/// flight and a history).
///
/// # Cost
/// Everything is O(1) in the length of the list, amortised over the growth of its memory, except
/// loads and pages (linear), and an insertion that evicts from a list that was loaded with
/// duplicate keys which have been disturbed since (linear, counted in [`Stats::rebuilds`]).
///
/// # Example
/// ```
/// use millstream_core::RawJson;
/// use millstream_merge::{Change, Key, Limits, Merge, Options, Strategy};
///
/// let json = |text: &'static str| RawJson::parse(text.into()).unwrap();
/// let mut rows = Merge::new(Options::new(Strategy::Crud), Limits::default());
/// rows.load(json(r#"[{"id":1},{"id":2.50},{"id":"three"}]"#))?;
/// let change = rows.apply("deleted", json(r#"{"id":1}"#))?;
/// assert!(matches!(change, Change::Removed { at: 0, moved_from: Some(2), .. }));
/// rows.apply("updated", json(r#"{"id":2.5,"done":true}"#))?;
/// assert_eq!(rows.find(Key::Text("three")).unwrap().as_str(), r#"{"id":"three"}"#);
///
/// let mut snapshot = Vec::new();
/// rows.write_json(&mut snapshot);
/// assert_eq!(snapshot, br#"[{"id":"three"},{"id":2.5,"done":true}]"#);
/// # Ok::<(), millstream_merge::MergeError>(())
/// ```
#[derive(Debug)]
pub struct Merge<T: Item> {
    options: Options,
    reader: T::Reader,
    state: State<T>,
    limits: Limits,
    stats: Stats,
    behind: bool,
    pub(crate) scratch: Scratch<T>,
}

#[derive(Clone, Debug)]
pub(crate) enum State<T> {
    Undefined,
    List(List<T>),
    Whole(T),
}

/// What the value of a [`Merge`] is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape<'a, T> {
    /// Nothing was loaded yet.
    Undefined,
    /// A list: see [`Merge::rows`].
    List,
    /// One value: any under `set`, and one that is no list under the others.
    Whole(&'a T),
}

/// By how much a value grows. Zero where it does not, or shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Growth {
    /// Entries more.
    pub entries: usize,
    /// Bytes more, as [`Item::byte_len`] counts.
    pub bytes: usize,
}

impl Growth {
    const NONE: Self = Self {
        entries: 0,
        bytes: 0,
    };
}

/// What an event name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Insert,
    Update,
    Remove,
    Replace,
    Refresh,
    Append,
    Nothing,
}

impl<T: Item> Merge<T> {
    /// An undefined value.
    #[must_use]
    pub fn new(options: Options, limits: Limits) -> Self {
        let reader = T::reader(options.key_field());
        Self {
            options,
            reader,
            state: State::Undefined,
            limits: limits.checked(),
            stats: Stats::default(),
            behind: false,
            scratch: Scratch::default(),
        }
    }

    /// Takes a value as it is: any type, not trimmed to `max`, not sanitised.
    ///
    /// # Errors
    /// A list or value over the [`Limits`]; the old value stays, and
    /// [`is_behind`](Self::is_behind).
    pub fn load(&mut self, value: T) -> Result<(), MergeError> {
        let state = self.split(value);
        self.enter(state)
    }

    /// Takes a list of items as it is.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_rows(&mut self, rows: Vec<T>) -> Result<(), MergeError> {
        let state = State::List(List::from_rows(rows, self.keyed_reader()));
        self.enter(state)
    }

    /// Applies one event.
    ///
    /// # Errors
    /// [`MergeError::NullData`] for `null` on a keyed event, and events over the [`Limits`].
    /// Nothing has changed then; go on with the next event.
    pub fn apply(&mut self, event: &str, data: T) -> Result<Change<T>, MergeError> {
        let verb = self.verb(event);
        let slot = self.receive(verb, data);
        self.apply_slot(verb, slot)
    }

    /// Whether an event could be applied now, and by how much the value would grow. For those who
    /// have to know before they tell others of the event. Never marks the value as behind.
    ///
    /// ```
    /// # use millstream_core::RawJson;
    /// # use millstream_merge::{Limits, Merge, Options, Strategy};
    /// # let json = |text: &'static str| RawJson::parse(text.into()).unwrap();
    /// let limits = Limits { entries_max: 1, ..Limits::default() };
    /// let mut rows = Merge::new(Options::new(Strategy::Crud), limits);
    /// let first = json(r#"{"id":1}"#);
    /// assert_eq!(rows.fits("created", &first).unwrap().bytes, 8);
    /// rows.apply("created", first).unwrap();
    /// assert!(rows.fits("created", &json(r#"{"id":2}"#)).is_err() && !rows.is_behind());
    /// ```
    ///
    /// # Cost
    /// As [`apply`](Self::apply): the key is found as there.
    ///
    /// # Errors
    /// Those of `apply`.
    pub fn fits(&self, event: &str, data: &T) -> Result<Growth, MergeError> {
        let verb = self.verb(event);
        let slot = self.receive(verb, data.clone());
        let keyed = matches!(verb, Verb::Insert | Verb::Update | Verb::Remove);
        if keyed && slot.item.is_null() {
            return Err(MergeError::NullData);
        }
        let found = keyed
            .then(|| self.list()?.find(slot.key()))
            .flatten()
            .and_then(|at| self.row(at));
        // What was no list gives way to an empty one first.
        let (len, bytes) = match &self.state {
            State::List(_) => (self.len(), self.bytes()),
            State::Undefined | State::Whole(_) => (0, 0),
        };
        let item = slot.item.byte_len();
        let (entries, bytes) = match (verb, found) {
            (Verb::Nothing, _) | (Verb::Update | Verb::Remove, None) => return Ok(Growth::NONE),
            (Verb::Remove, Some(_)) => return Ok(Growth::NONE),
            (Verb::Insert | Verb::Update, Some(old)) => (len, bytes - old.byte_len() + item),
            (Verb::Insert | Verb::Append, _) => {
                let crud = self.options.strategy == Strategy::Crud;
                let max = if crud || verb == Verb::Append {
                    self.options.max
                } else {
                    0
                };
                let (excess, freed) = self.evicted_by_one(max, !(crud && self.options.prepend));
                (len + 1 - excess, bytes - freed + item)
            }
            (Verb::Replace | Verb::Refresh, _) => match self.split(slot.item) {
                State::Undefined => (0, 0),
                State::List(list) => (list.len(), list.bytes()),
                State::Whole(value) => (0, value.byte_len()),
            },
        };
        within(&self.limits, entries, bytes)?;
        Ok(Growth {
            entries: entries.saturating_sub(self.len()),
            bytes: bytes.saturating_sub(self.bytes()),
        })
    }

    /// Applies events in order, as a batch frame brings them. `seen` hears what each did.
    pub fn apply_batch<'a>(
        &mut self,
        events: impl IntoIterator<Item = (&'a str, T)>,
        mut seen: impl FnMut(Result<Change<T>, MergeError>),
    ) {
        for (event, data) in events {
            seen(self.apply(event, data));
        }
    }

    /// Takes the reply to a request for another page: after the list, or before it with `prepend`.
    /// Duplicates are kept, `max` is not applied. What is no list becomes the value.
    ///
    /// # Cost
    /// Linear in the whole list.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn handle_page(&mut self, page: T) -> Result<(), MergeError> {
        if let State::Whole(whole) = &self.state
            && let Ok(rows) = whole.clone().into_rows()
        {
            // Under `set` a list is one value; a page still extends it.
            self.state = State::List(List::from_rows(rows, self.keyed_reader()));
        }
        if !matches!(self.state, State::List(_)) {
            return self.load(page);
        }
        let rows = match page.into_rows() {
            Ok(rows) => rows,
            Err(page) => return self.load(page),
        };
        let bytes = rows.iter().map(Item::byte_len).sum();
        self.admit(self.len() + rows.len(), self.bytes().saturating_add(bytes))?;
        let reader = keyed_reader(&self.options, &self.reader);
        if let State::List(list) = &mut self.state {
            if self.options.prepend {
                list.extend_front(rows, reader);
            } else {
                list.extend(rows, reader);
            }
            list.rebuild();
        }
        Ok(())
    }

    /// Takes over what a subscribe reply says about the options.
    ///
    /// # Cost
    /// Linear if the key field changes, else constant.
    pub fn adopt(&mut self, settings: &Settings) {
        let was = (
            self.options.key_field().to_owned(),
            self.options.strategy.is_keyed(),
        );
        self.options.adopt(settings);
        let keyed = self.options.strategy.is_keyed();
        if was.0 != self.options.key_field() || was.1 != keyed {
            self.reader = T::reader(self.options.key_field());
            let reader = keyed_reader(&self.options, &self.reader);
            if let State::List(list) = &mut self.state {
                list.rekey(reader);
            }
        }
        self.reshape();
    }

    /// Forgets the value.
    pub fn clear(&mut self) {
        self.state = State::Undefined;
        self.behind = false;
    }

    /// What the value is.
    #[must_use]
    pub const fn shape(&self) -> Shape<'_, T> {
        match &self.state {
            State::Undefined => Shape::Undefined,
            State::List(_) => Shape::List,
            State::Whole(value) => Shape::Whole(value),
        }
    }

    /// The items of a list in order; nothing for other values.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.list().into_iter().flat_map(List::rows)
    }

    /// The item at a position.
    #[must_use]
    pub fn row(&self, at: usize) -> Option<&T> {
        self.list()?.row(at)
    }

    /// The item with that key, if an event could reach it.
    #[must_use]
    pub fn find(&self, key: Key<'_>) -> Option<&T> {
        let list = self.list()?;
        list.row(list.find(key)?)
    }

    /// The key of an item under these options.
    #[must_use]
    pub fn key_of<'a>(&self, item: &'a T) -> Key<'a> {
        item.key(item.spot(&self.reader))
    }

    /// Number of items of a list; 0 for other values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().map_or(0, List::len)
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all entries, as [`Item::byte_len`] counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.state {
            State::Undefined => 0,
            State::List(list) => list.bytes(),
            State::Whole(value) => value.byte_len(),
        }
    }

    /// Whether an event was refused for its size since the last load: others may show what this
    /// value does not hold. Load it again, or do not hand it out.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.behind
    }

    /// The options.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    pub(crate) const fn reader(&self) -> &T::Reader {
        &self.reader
    }

    /// A second value with the same rules, to try changes on.
    pub(crate) fn fork(&self) -> Self {
        Self {
            options: self.options.clone(),
            reader: T::reader(self.options.key_field()),
            state: self.state.clone(),
            limits: self.limits,
            stats: Stats::default(),
            behind: self.behind,
            scratch: Scratch::default(),
        }
    }

    /// Under the strategies of lists a value that is none gives way to an empty list. True if so.
    pub(crate) fn become_list(&mut self) -> bool {
        let becomes = self.options.strategy.is_list() && !matches!(self.state, State::List(_));
        if becomes {
            self.state = State::List(List::new());
        }
        becomes
    }

    pub(crate) fn rebuild(&mut self) {
        if let State::List(list) = &mut self.state {
            list.rebuild();
        }
    }

    /// What the name of an event means here.
    pub(crate) fn verb(&self, event: &str) -> Verb {
        match (self.options.strategy, event) {
            (_, "refreshed") => Verb::Refresh,
            (Strategy::Crud, "created")
            | (Strategy::Presence, "join")
            | (Strategy::Cursor, "update") => Verb::Insert,
            (Strategy::Crud, "updated") => Verb::Update,
            (Strategy::Crud, "deleted")
            | (Strategy::Presence, "leave")
            | (Strategy::Cursor, "remove") => Verb::Remove,
            (Strategy::Presence | Strategy::Cursor, "set") | (Strategy::Set, _) => Verb::Replace,
            (Strategy::Latest, _) => Verb::Append,
            (Strategy::Crud | Strategy::Presence | Strategy::Cursor | Strategy::Unknown, _) => {
                Verb::Nothing
            }
        }
    }

    /// Sanitises an event's data and finds its key, as far as the verb needs it.
    pub(crate) fn receive(&self, verb: Verb, data: T) -> Slot<T> {
        if !self.options.strategy.is_keyed() || verb == Verb::Nothing {
            return Slot::keyless(data);
        }
        if verb == Verb::Refresh || verb == Verb::Replace {
            return Slot::keyless(data.sanitised(&self.reader));
        }
        let (item, spot) = data.received(&self.reader);
        Slot { item, spot }
    }

    /// Applies what [`receive`](Self::receive) has prepared.
    pub(crate) fn apply_slot(
        &mut self,
        verb: Verb,
        slot: Slot<T>,
    ) -> Result<Change<T>, MergeError> {
        if matches!(verb, Verb::Insert | Verb::Update | Verb::Remove) && slot.item.is_null() {
            self.stats.refused_null += 1;
            return Err(MergeError::NullData);
        }
        if matches!(verb, Verb::Refresh | Verb::Replace) {
            return self.replace_all(verb, slot.item);
        }
        let reset = !matches!(self.state, State::List(_)) && self.options.strategy.is_list();
        let change = match verb {
            Verb::Insert => self.insert(slot)?,
            Verb::Update => self.update(slot)?,
            Verb::Remove => self.remove(&slot),
            Verb::Append => self.append(slot.item)?,
            Verb::Nothing | Verb::Refresh | Verb::Replace => Change::Ignored,
        };
        let change = if reset && (change.is_change() || self.become_list()) {
            Change::Reset
        } else {
            change
        };
        if change.is_change() {
            self.stats.applied += 1;
        } else {
            self.stats.ignored += 1;
        }
        Ok(change)
    }

    fn replace_all(&mut self, verb: Verb, data: T) -> Result<Change<T>, MergeError> {
        if verb == Verb::Replace
            && self.options.strategy == Strategy::Set
            && let State::Whole(value) = &self.state
            && value.same_primitive(&data)
        {
            self.stats.ignored += 1;
            return Ok(Change::Same);
        }
        let state = self.split(data);
        self.enter(state)?;
        self.stats.applied += 1;
        Ok(Change::Reset)
    }

    fn insert(&mut self, slot: Slot<T>) -> Result<Change<T>, MergeError> {
        if let Some(at) = self.list().and_then(|list| list.find(slot.key())) {
            return self.replace(at, slot);
        }
        let (prepend, max) = match self.options.strategy {
            Strategy::Crud => (self.options.prepend, self.options.max),
            _ => (false, 0),
        };
        if prepend {
            self.push_front(slot, max)
        } else {
            self.push_back(slot, max)
        }
    }

    fn update(&mut self, slot: Slot<T>) -> Result<Change<T>, MergeError> {
        match self.list().and_then(|list| list.find(slot.key())) {
            Some(at) => self.replace(at, slot),
            None => Ok(Change::Ignored),
        }
    }

    fn replace(&mut self, at: usize, slot: Slot<T>) -> Result<Change<T>, MergeError> {
        let old_bytes = self.row(at).map_or(0, Item::byte_len);
        self.admit(self.len(), self.bytes() - old_bytes + slot.item.byte_len())?;
        let replaced = self.list_mut().replace(at, slot);
        Ok(replaced.map_or(Change::Ignored, |old| Change::Replaced { at, old }))
    }

    fn remove(&mut self, slot: &Slot<T>) -> Change<T> {
        let State::List(list) = &mut self.state else {
            return Change::Ignored;
        };
        let Some(at) = list.find(slot.key()) else {
            return Change::Ignored;
        };
        match list.swap_remove(at) {
            Some((old, moved_from)) => Change::Removed {
                at,
                old,
                moved_from,
            },
            None => Change::Ignored,
        }
    }

    fn append(&mut self, item: T) -> Result<Change<T>, MergeError> {
        let excess = self.admit_one(&item, self.options.max, true)?;
        let list = self.list_mut();
        list.push_unindexed(item);
        Ok(self.evict_front(excess))
    }

    fn push_back(&mut self, slot: Slot<T>, max: usize) -> Result<Change<T>, MergeError> {
        let excess = self.admit_one(&slot.item, max, true)?;
        self.list_mut().push_back(slot);
        Ok(self.evict_front(excess))
    }

    fn push_front(&mut self, slot: Slot<T>, max: usize) -> Result<Change<T>, MergeError> {
        let excess = self.admit_one(&slot.item, max, false)?;
        let list = self.list_mut();
        list.push_front(slot);
        let mut items = SmallVec::new();
        for _ in 0..excess {
            items.extend(list.evict_back());
        }
        self.stats.evicted += excess as u64;
        let evicted = if excess == 0 {
            Evicted::None
        } else {
            Evicted::Back(items)
        };
        Ok(Change::Inserted { at: 0, evicted })
    }

    /// Drops what is too much in front of an item that was just appended.
    fn evict_front(&mut self, excess: usize) -> Change<T> {
        let mut items = SmallVec::new();
        let mut rebuilt = false;
        let list = self.list_mut();
        if excess > 0 {
            rebuilt = list.evict_front(excess, &mut items);
        }
        let at = list.len() - 1;
        self.stats.evicted += excess as u64;
        self.stats.rebuilds += u64::from(rebuilt);
        let evicted = if excess == 0 {
            Evicted::None
        } else {
            Evicted::Front(items)
        };
        Change::Inserted { at, evicted }
    }

    /// How many items one more would evict, and their bytes.
    fn evicted_by_one(&self, max: usize, front: bool) -> (usize, usize) {
        let len = self.len() + 1;
        let excess = if max > 0 { len.saturating_sub(max) } else { 0 };
        let freed = match self.list() {
            Some(list) if front => list.rows().take(excess).map(Item::byte_len).sum(),
            Some(list) => list.rows().rev().take(excess).map(Item::byte_len).sum(),
            None => 0,
        };
        (excess, freed)
    }

    /// Whether there is room for one more item after `max` has evicted; how many it evicts.
    fn admit_one(&mut self, item: &T, max: usize, front: bool) -> Result<usize, MergeError> {
        let len = self.len() + 1;
        let (excess, freed) = self.evicted_by_one(max, front);
        let bytes = if matches!(self.state, State::List(_)) {
            self.bytes()
        } else {
            0
        };
        self.admit(len - excess, bytes - freed + item.byte_len())?;
        Ok(excess)
    }

    /// Whether so much is within the limits.
    fn admit(&mut self, entries: usize, bytes: usize) -> Result<(), MergeError> {
        within(&self.limits, entries, bytes).inspect_err(|error| {
            self.behind = true;
            if matches!(error, MergeError::TooManyEntries { .. }) {
                self.stats.refused_entries += 1;
            } else {
                self.stats.refused_bytes += 1;
            }
        })
    }

    /// The value as the strategy keeps it.
    fn split(&self, value: T) -> State<T> {
        if !self.options.strategy.is_list() {
            return State::Whole(value);
        }
        match value.into_rows() {
            Ok(rows) => State::List(List::from_rows(rows, self.keyed_reader())),
            Err(value) => State::Whole(value),
        }
    }

    /// Makes a loaded state the current one.
    pub(crate) fn enter(&mut self, state: State<T>) -> Result<(), MergeError> {
        let (entries, bytes) = match &state {
            State::Undefined => (0, 0),
            State::List(list) => (list.len(), list.bytes()),
            State::Whole(value) => (0, value.byte_len()),
        };
        self.admit(entries, bytes)?;
        self.state = state;
        self.behind = false;
        Ok(())
    }

    /// A list that came under another strategy is split into its items.
    fn reshape(&mut self) {
        if self.options.strategy.is_list()
            && let State::Whole(value) = &self.state
        {
            let state = self.split(value.clone());
            self.state = state;
        }
    }

    fn keyed_reader(&self) -> Option<&T::Reader> {
        keyed_reader(&self.options, &self.reader)
    }

    fn list(&self) -> Option<&List<T>> {
        match &self.state {
            State::List(list) => Some(list),
            State::Undefined | State::Whole(_) => None,
        }
    }

    /// The list; an empty one in place of anything else.
    fn list_mut(&mut self) -> &mut List<T> {
        if !matches!(self.state, State::List(_)) {
            self.state = State::List(List::new());
        }
        match &mut self.state {
            State::List(list) => list,
            State::Undefined | State::Whole(_) => unreachable!("it was just made a list"),
        }
    }
}

impl Merge<RawJson> {
    /// Appends the value as JSON: the items' own bytes, joined. Nothing if it is undefined.
    ///
    /// # Cost
    /// One copy of the bytes; `out` grows once.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match &self.state {
            State::Undefined => {}
            State::Whole(value) => out.extend_from_slice(value.as_bytes()),
            State::List(list) => {
                out.reserve(list.bytes() + list.len() + 2);
                out.push(b'[');
                for (at, row) in list.rows().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(row.as_bytes());
                }
                out.push(b']');
            }
        }
    }
}

/// Whether so much is within the limits.
fn within(limits: &Limits, entries: usize, bytes: usize) -> Result<(), MergeError> {
    if entries > limits.entries_max {
        let (needed, limit) = (entries, limits.entries_max);
        return Err(MergeError::TooManyEntries { needed, limit });
    }
    if bytes > limits.bytes_max {
        let (needed, limit) = (bytes, limits.bytes_max);
        return Err(MergeError::TooManyBytes { needed, limit });
    }
    Ok(())
}

fn keyed_reader<'a, R>(options: &Options, reader: &'a R) -> Option<&'a R> {
    options.strategy.is_keyed().then_some(reader)
}
