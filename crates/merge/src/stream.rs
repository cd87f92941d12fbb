//! What a client shows: the server's value, with changes of its own on top.

use std::collections::VecDeque;
use std::fmt;

use crate::history::History;
use crate::list::Slot;
use crate::merge::Verb;
use crate::{
    Event, Frame, HistoryLimits, Item, Key, KeySpot, Limits, Merge, MergeError, Options, Reply,
    Settings, Shape,
};

/// Bounds of the changes in flight of one stream.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | `pending_max` | 1,000 | a further change is refused |
/// | `pending_bytes_max` | 8 MiB | the same |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Most changes that wait for their outcome.
    pub pending_max: usize,
    /// Most bytes of their data together.
    pub pending_bytes_max: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            pending_max: 1_000,
            pending_bytes_max: 8 << 20,
        }
    }
}

/// Names a change in flight. Never used twice by one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(u64);

/// A whole value, taken out of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<T> {
    /// Nothing was loaded yet.
    Undefined,
    /// A list.
    List(Vec<T>),
    /// Any other value.
    Whole(T),
}

impl<T: Item> Content<T> {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::List(rows) => rows.len(),
            Self::Undefined | Self::Whole(_) => 0,
        }
    }

    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Undefined => 0,
            Self::List(rows) => rows.iter().map(Item::byte_len).sum(),
            Self::Whole(value) => value.byte_len(),
        }
    }

    fn of(merge: &Merge<T>) -> Self {
        match merge.shape() {
            Shape::Undefined => Self::Undefined,
            Shape::List => Self::List(merge.rows().cloned().collect()),
            Shape::Whole(value) => Self::Whole(value.clone()),
        }
    }

    fn put_into(self, merge: &mut Merge<T>) -> Result<(), MergeError> {
        match self {
            Self::Undefined => {
                merge.clear();
                Ok(())
            }
            Self::List(rows) => merge.load_rows(rows),
            Self::Whole(value) => merge.load(value),
        }
    }
}

/// A change of a whole value.
pub type EditFunction<T> = dyn Fn(&mut Content<T>) + Send;

/// A change that the client shows before the server has confirmed it.
pub enum Edit<T> {
    /// As if this event had arrived.
    Event {
        /// Its name.
        name: Box<str>,
        /// Its data.
        data: T,
    },
    /// A function of the shown value. It must give the same result for the same value, since it
    /// runs whenever the changes are laid over a new value of the server.
    Function(Box<EditFunction<T>>),
}

impl<T: Item> Edit<T> {
    fn spot(&self, merge: &Merge<T>) -> KeySpot {
        match self {
            Self::Event { data, .. } if merge.options().strategy.is_keyed() => {
                data.spot(merge.reader())
            }
            Self::Event { .. } | Self::Function(_) => KeySpot::Missing,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Edit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { name, data } => f.debug_tuple("Event").field(name).field(data).finish(),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

#[derive(Debug)]
struct Pending<T> {
    id: u64,
    edit: Edit<T>,
    /// Where an event has its key.
    spot: KeySpot,
    bytes: usize,
    /// The server has sent an item with the same key: what it says holds.
    confirmed: bool,
}

/// A stream as a client shows it: the value of the server, changes in flight on top of it, and a
/// history for undo and redo.
///
/// Every method that may change what is shown says whether readers should be called.
///
/// Changes in flight stand in a queue. What is shown is the server's value with every unconfirmed
/// change applied in order, so each can fail on its own and nothing the server said is lost. An
/// event that the server sends for the same key confirms a change; settling it with success applies
/// it to the server's value unless it was confirmed.
///
/// Different from the JavaScript original (svelte-realtime 0.5.12): a subscribe reply that arrives
/// while changes are in flight replaces the server's value and is kept (there it is lost when the
/// queue drains); a server event whose key is `null` does not confirm changes without a key; a
/// function cannot corrupt what it was given; undo is refused while changes are in flight.
///
/// # Cost
/// Live events are O(1), and linear in the number of changes in flight. Looking at the value
/// ([`shown`](Self::shown)) after something has changed while changes are in flight copies the list
/// (shared bytes) and applies them; otherwise it is free.
///
/// # Example
/// ```
/// use millstream_core::RawJson;
/// use millstream_merge::*;
///
/// let json = |text: &'static str| RawJson::parse(text.into()).unwrap();
/// let mut stream = Stream::new(Options::default(), Limits::default(), StreamLimits::default());
/// stream.handle_reply(&Settings::default(), Reply::Full(json(r#"[{"id":1}]"#)))?;
///
/// let edit = |data| Edit::Event { name: "created".into(), data: json(data) };
/// let two = stream.start(edit(r#"{"id":2}"#))?;
/// let three = stream.start(edit(r#"{"id":3}"#))?;
/// assert_eq!(stream.shown().len(), 3);
/// assert!(stream.settle(two, false), "refused by the server");
/// stream.handle_event("created", json(r#"{"id":3,"by":"server"}"#))?;
/// stream.settle(three, true);
/// let mut text = Vec::new();
/// stream.shown().write_json(&mut text);
/// assert_eq!(text, br#"[{"id":1},{"id":3,"by":"server"}]"#);
/// # Ok::<(), MergeError>(())
/// ```
#[derive(Debug)]
pub struct Stream<T: Item> {
    server: Merge<T>,
    /// The server's value with the changes in flight, while there are any; `None` when it has to
    /// be made again.
    overlay: Option<Merge<T>>,
    pending: VecDeque<Pending<T>>,
    pending_bytes: usize,
    next_id: u64,
    limits: StreamLimits,
    history: Option<History<T>>,
    /// The server's value has changed since it was recorded.
    unrecorded: bool,
    /// What readers saw last, if it was no list: they are not called for the same again.
    last: Content<T>,
}

impl<T: Item> Stream<T> {
    /// A stream that was never loaded.
    #[must_use]
    pub fn new(options: Options, limits: Limits, stream_limits: StreamLimits) -> Self {
        Self {
            server: Merge::new(options, limits),
            overlay: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            next_id: 0,
            limits: stream_limits,
            history: None,
            unrecorded: false,
            last: Content::Undefined,
        }
    }

    /// Takes a subscribe reply. True if readers should be called.
    ///
    /// # Errors
    /// As [`Merge::handle_reply`].
    pub fn handle_reply(
        &mut self,
        settings: &Settings,
        reply: Reply<T>,
    ) -> Result<bool, MergeError> {
        self.server.adopt(settings);
        for pending in &mut self.pending {
            pending.spot = pending.edit.spot(&self.server);
        }
        if !self.server.handle_reply(reply)? {
            self.overlay = None;
            return Ok(false);
        }
        Ok(self.show(true))
    }

    /// Takes a live event. True if readers should be called.
    ///
    /// # Errors
    /// As [`Merge::apply`]; go on with the next event.
    pub fn handle_event(&mut self, event: &str, data: T) -> Result<bool, MergeError> {
        let confirms = self.confirming(event, &data);
        let change = self.server.apply(event, data)?;
        if let Some(event) = confirms {
            self.confirm(&event);
        }
        Ok(change.notifies() && self.show(true))
    }

    /// Takes the events of one animation frame. `notifies` says whether readers should be called.
    pub fn handle_frame(&mut self, events: &mut Vec<Event<'_, T>>) -> Frame {
        let confirming = events
            .iter()
            .map(|event| self.confirming(event.name, &event.data));
        let confirms: Vec<Slot<T>> = confirming.flatten().collect();
        let mut frame = self.server.apply_frame(events, |_| ());
        for event in &confirms {
            self.confirm(event);
        }
        frame.notifies = frame.notifies && self.show(true);
        frame
    }

    /// Takes another page. True if readers should be called.
    ///
    /// # Errors
    /// As [`Merge::handle_page`].
    pub fn handle_page(&mut self, page: T) -> Result<bool, MergeError> {
        self.server.handle_page(page)?;
        Ok(self.show(false))
    }

    /// Sets the value before the first load.
    ///
    /// # Errors
    /// As [`Merge::load`].
    pub fn hydrate(&mut self, value: T) -> Result<bool, MergeError> {
        self.server.load(value)?;
        Ok(self.show(false))
    }

    /// Shows a change at once, until [`settle`](Self::settle) says what became of it.
    ///
    /// # Errors
    /// [`MergeError::TooManyPending`], [`MergeError::TooManyPendingBytes`], and
    /// [`MergeError::NullData`] for an event that a keyed list cannot take. Nothing has changed.
    pub fn start(&mut self, mut edit: Edit<T>) -> Result<ChangeId, MergeError> {
        let limit = self.limits.pending_max;
        if self.pending.len() >= limit {
            return Err(MergeError::TooManyPending { limit });
        }
        let bytes = match &mut edit {
            Edit::Event { name, data } => {
                let verb = self.server.verb(name);
                if is_keyed(verb) && data.is_null() {
                    return Err(MergeError::NullData);
                }
                *data = self.server.receive(verb, data.clone()).item;
                data.byte_len()
            }
            Edit::Function(_) => 0,
        };
        let (needed, limit) = (self.pending_bytes + bytes, self.limits.pending_bytes_max);
        if needed > limit {
            return Err(MergeError::TooManyPendingBytes { needed, limit });
        }
        if matches!(self.server.shape(), Shape::Undefined) {
            self.server.become_list();
        }
        let id = self.next_id;
        self.next_id += 1;
        self.pending_bytes = needed;
        self.pending.push_back(Pending {
            id,
            spot: edit.spot(&self.server),
            edit,
            bytes,
            confirmed: false,
        });
        self.show(false);
        Ok(ChangeId(id))
    }

    /// A change has succeeded or failed. True if readers should be called; false also for a change
    /// that was settled before.
    ///
    /// # Cost
    /// Linear in the changes in flight.
    pub fn settle(&mut self, id: ChangeId, success: bool) -> bool {
        let Some(at) = self.pending.iter().position(|pending| pending.id == id.0) else {
            return false;
        };
        let Some(pending) = self.pending.remove(at) else {
            return false;
        };
        self.pending_bytes -= pending.bytes;
        if success && !pending.confirmed {
            // What cannot be applied was not shown either.
            let _ = apply_edit(&mut self.server, &pending.edit);
            self.unrecorded = true;
        }
        self.show(false)
    }

    /// Begins to remember values; the current one is the first. A history that was begun before
    /// goes on; the limits hold from the next value on.
    pub fn enable_history(&mut self, limits: HistoryLimits) {
        match &mut self.history {
            Some(history) => history.limits = limits,
            None => self.history = Some(History::new(limits, Content::of(&self.server))),
        }
    }

    /// Stops recording.
    pub fn pause_history(&mut self) {
        if let Some(history) = &mut self.history {
            history.paused = true;
        }
    }

    /// Records again, the current value first. Does nothing unless recording was stopped.
    pub fn resume_history(&mut self) {
        let current = Content::of(&self.server);
        if let Some(history) = self.history.as_mut().filter(|history| history.paused) {
            history.paused = false;
            history.record(current);
        }
    }

    /// Shows the value before the last change. False if there is none. Without a history, begins
    /// one.
    ///
    /// # Errors
    /// [`MergeError::Unsettled`] while changes are in flight.
    pub fn undo(&mut self) -> Result<bool, MergeError> {
        self.travel(History::undo)
    }

    /// Takes an undo back. False if there is none. Without a history, begins one.
    ///
    /// # Errors
    /// [`MergeError::Unsettled`] while changes are in flight.
    pub fn redo(&mut self) -> Result<bool, MergeError> {
        self.travel(History::redo)
    }

    /// Whether [`undo`](Self::undo) has somewhere to go.
    #[must_use]
    pub fn can_undo(&self) -> bool {
        self.history.as_ref().is_some_and(History::can_undo)
    }

    /// Whether [`redo`](Self::redo) has somewhere to go.
    #[must_use]
    pub fn can_redo(&self) -> bool {
        self.history.as_ref().is_some_and(History::can_redo)
    }

    /// What readers see.
    pub fn shown(&mut self) -> &Merge<T> {
        if self.pending.is_empty() {
            self.overlay = None;
            return &self.server;
        }
        let (server, pending) = (&self.server, &self.pending);
        self.overlay
            .get_or_insert_with(|| lay_over(server, pending))
    }

    /// The value without the changes in flight.
    #[must_use]
    pub const fn server(&self) -> &Merge<T> {
        &self.server
    }

    /// Number of changes in flight.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether that change is in flight and was confirmed by an event of the server.
    #[must_use]
    pub fn is_confirmed(&self, id: ChangeId) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|pending| pending.id == id.0 && pending.confirmed)
    }

    fn travel(
        &mut self,
        step: impl FnOnce(&mut History<T>) -> Option<Content<T>>,
    ) -> Result<bool, MergeError> {
        let pending = self.pending.len();
        if pending > 0 {
            return Err(MergeError::Unsettled { pending });
        }
        let Some(history) = &mut self.history else {
            self.enable_history(HistoryLimits::default());
            return Ok(false);
        };
        let Some(content) = step(history) else {
            return Ok(false);
        };
        content.put_into(&mut self.server)?;
        Ok(self.notify())
    }

    /// The data of an event that may confirm changes, if there are any.
    fn confirming(&self, event: &str, data: &T) -> Option<Slot<T>> {
        if self.pending.is_empty() {
            return None;
        }
        let verb = self.server.verb(event);
        let confirms = matches!(verb, Verb::Insert | Verb::Update) && !data.is_null();
        confirms.then(|| self.server.receive(verb, data.clone()))
    }

    fn confirm(&mut self, event: &Slot<T>) {
        let key = event.key();
        if matches!(key, Key::Missing) {
            return;
        }
        for pending in &mut self.pending {
            if let Edit::Event { data, .. } = &pending.edit {
                pending.confirmed |= data.key(pending.spot).same(&key);
            }
        }
    }

    /// The value may have changed: says whether readers should be called. What the server did is
    /// recorded once no changes are in flight any more.
    fn show(&mut self, by_server: bool) -> bool {
        self.overlay = None;
        let notify = self.notify();
        self.unrecorded |= by_server && (notify || !self.pending.is_empty());
        if self.unrecorded && self.pending.is_empty() {
            self.unrecorded = false;
            if let Some(history) = &mut self.history
                && history.takes(self.server.len())
            {
                history.record(Content::of(&self.server));
            }
        }
        notify
    }

    /// Lists always count as changed. Whole values are compared with what was seen last.
    fn notify(&mut self) -> bool {
        let keyed = self.server.options().strategy.is_list();
        let now = if !self.pending.is_empty() && keyed {
            // The changes in flight make it a list; there is no need to build it to know.
            Content::List(Vec::new())
        } else {
            match self.shown().shape() {
                Shape::Undefined => Content::Undefined,
                Shape::List => Content::List(Vec::new()),
                Shape::Whole(value) => Content::Whole(value.clone()),
            }
        };
        let same = match (&now, &self.last) {
            (Content::Undefined, Content::Undefined) => true,
            (Content::Whole(now), Content::Whole(last)) => now.same_primitive(last),
            _ => false,
        };
        self.last = now;
        !same
    }
}

const fn is_keyed(verb: Verb) -> bool {
    matches!(verb, Verb::Insert | Verb::Update | Verb::Remove)
}

fn lay_over<T: Item>(server: &Merge<T>, pending: &VecDeque<Pending<T>>) -> Merge<T> {
    let mut shown = server.fork();
    for change in pending.iter().filter(|change| !change.confirmed) {
        // A change that cannot be applied to this value is not shown.
        let _ = apply_edit(&mut shown, &change.edit);
    }
    shown
}

fn apply_edit<T: Item>(merge: &mut Merge<T>, edit: &Edit<T>) -> Result<(), MergeError> {
    match edit {
        Edit::Event { name, data } => merge.apply(name, data.clone()).map(drop),
        Edit::Function(function) => {
            let mut content = Content::of(merge);
            function(&mut content);
            content.put_into(merge)
        }
    }
}
