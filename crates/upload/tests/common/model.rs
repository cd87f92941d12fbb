//! What the engine has to do, in lists that are searched from end to end.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_upload::{BudgetLimits, CHUNK_COST, Limits, Take, Terms, UploadError};

use super::Refused;

/// An event, by the model's ids.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    Opened(usize, u64, u32),
    Readable(usize),
    Reauthorize(usize),
    Aborted(usize, String, u64),
    Reply {
        conn: u64,
        upload: u32,
        code: Option<String>,
        announced: bool,
        continue_at: Option<u64>,
    },
    Pause(u64),
    Resume(u64),
}

pub(crate) struct Upload {
    id: usize,
    conn: u64,
    number: u32,
    next: u32,
    offset: Option<u64>,
    received: u64,
    taken: u64,
    terms: Option<Terms>,
    starting: (u32, usize),
    queue: Vec<Bytes>,
    ended: bool,
    asleep: bool,
    blocking: bool,
    checked_at: u64,
    checking: bool,
    idle_since: Option<u64>,
}

pub(crate) struct Model {
    limits: Limits,
    shared: BudgetLimits,
    /// In the order of opening.
    pub(crate) uploads: Vec<Upload>,
    /// Ids of those that wait for their clients, in the order in which that began.
    idle: Vec<usize>,
    announced: BTreeSet<u64>,
    opened: usize,
    pub(crate) said: Vec<Said>,
}

fn cost(chunk: &Bytes) -> usize {
    chunk.len() + CHUNK_COST
}

impl Upload {
    fn waiting(&self) -> usize {
        self.queue.iter().map(cost).sum()
    }

    fn has_something(&self) -> bool {
        self.ended || !self.queue.is_empty()
    }
}

impl Model {
    pub(crate) fn new(limits: Limits, shared: BudgetLimits) -> Self {
        Self {
            limits,
            shared,
            uploads: Vec::new(),
            idle: Vec::new(),
            announced: BTreeSet::new(),
            opened: 0,
            said: Vec::new(),
        }
    }

    pub(crate) fn running(&self) -> u32 {
        u32::try_from(self.uploads.iter().filter(|u| u.terms.is_some()).count()).expect("few")
    }

    pub(crate) fn starting_bytes(&self) -> usize {
        self.uploads.iter().map(|u| u.starting.1).sum()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.uploads.iter().map(Upload::waiting).sum()
    }

    pub(crate) fn is_paused(&self, conn: u64) -> bool {
        self.uploads.iter().any(|u| u.conn == conn && u.blocking)
    }

    pub(crate) fn expected(&self, conn: u64, number: u32) -> u32 {
        let upload = self
            .uploads
            .iter()
            .find(|u| u.conn == conn && u.number == number);
        upload.map_or(1, |u| u.next)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let since = self.by_id(*self.idle.first()?)?.idle_since?;
        Some(since + 50)
    }

    fn by_id(&self, id: usize) -> Option<&Upload> {
        self.uploads.iter().find(|u| u.id == id)
    }

    fn index(&self, id: usize) -> Option<usize> {
        self.uploads.iter().position(|u| u.id == id)
    }

    fn reply(&mut self, conn: u64, upload: u32, code: Option<&str>, continue_at: Option<u64>) {
        let announced = self.limits.frame_bytes_max.is_some() && self.announced.insert(conn);
        self.said.push(Said::Reply {
            conn,
            upload,
            code: code.map(str::to_owned),
            announced,
            continue_at,
        });
    }

    pub(crate) fn open(&mut self, conn: u64, number: u32, text: &str, last: bool, data: Bytes) {
        let of_conn = self.uploads.iter().filter(|u| u.conn == conn).count();
        let error = if self
            .uploads
            .iter()
            .any(|u| u.conn == conn && u.number == number)
        {
            Some("INVALID_REQUEST")
        } else if of_conn >= self.limits.per_connection_max
            || self.uploads.len() >= self.limits.uploads_max
        {
            Some("TOO_MANY_UPLOADS")
        } else if !text.contains("rpc") {
            Some("INVALID_REQUEST")
        } else if data.len() > self.limits.starting_bytes_max {
            Some("PAYLOAD_TOO_LARGE")
        } else if self.starting_bytes() + data.len() > self.shared.starting_bytes_max
            || !self.has_room(&data)
        {
            Some("OVERLOADED")
        } else {
            None
        };
        if let Some(code) = error {
            self.reply(conn, number, Some(code), None);
            return;
        }
        let offset = text.contains("offset").then_some(10);
        let id = self.opened;
        self.opened += 1;
        self.uploads.push(Upload {
            id,
            conn,
            number,
            next: 1,
            offset,
            received: offset.unwrap_or(0) + data.len() as u64,
            taken: offset.unwrap_or(0),
            terms: None,
            starting: (1, data.len()),
            queue: if data.is_empty() {
                Vec::new()
            } else {
                vec![data]
            },
            ended: last,
            asleep: false,
            blocking: false,
            checked_at: 0,
            checking: false,
            idle_since: None,
        });
        self.said.push(Said::Opened(id, conn, number));
    }

    fn has_room(&self, data: &Bytes) -> bool {
        data.is_empty() || self.waiting_bytes() + cost(data) <= self.shared.waiting_bytes_max
    }

    pub(crate) fn chunk(
        &mut self,
        now: u64,
        conn: u64,
        number: u32,
        at: u32,
        last: bool,
        data: Bytes,
    ) {
        let found = self
            .uploads
            .iter()
            .position(|u| u.conn == conn && u.number == number);
        let Some(index) = found else {
            return;
        };
        let id = self.uploads[index].id;
        if let Err(error) = self.admit(index, at, &data) {
            self.fail(id, error.code());
            return;
        }
        let upload = &mut self.uploads[index];
        if upload.ended {
            return;
        }
        upload.ended = last;
        if !data.is_empty() {
            upload.queue.push(data);
        }
        let every = upload.terms.and_then(|terms| terms.reauthorize_every);
        if let Some(every) = every
            && !upload.checking
            && upload.received - upload.checked_at >= every.get()
        {
            (upload.checking, upload.checked_at) = (true, upload.received);
            self.said.push(Said::Reauthorize(id));
        }
        self.settle(now, index);
    }

    /// Order, size, room; counts the chunk as received.
    fn admit(&mut self, index: usize, at: u32, data: &Bytes) -> Result<(), Refused> {
        let (starting, has_room) = (self.starting_bytes(), self.has_room(data));
        let (limits, shared) = (self.limits, self.shared);
        let upload = &mut self.uploads[index];
        if at != upload.next {
            let (expected, got) = (u64::from(upload.next), at);
            return Err(UploadError::OutOfOrder { expected, got });
        }
        upload.next += 1;
        upload.received += data.len() as u64;
        let (chunks, bytes) = upload.starting;
        let kept = !upload.ended && !data.is_empty();
        match upload.terms {
            Some(terms) if upload.received > terms.size_max => return Err(UploadError::TooLarge),
            Some(terms) => {
                let full = upload.queue.len()
                    >= (terms.waiting_chunks_max + limits.overrun_chunks_max).max(1)
                    || upload.waiting() + cost(data) > limits.waiting_bytes_max;
                if kept && full && !upload.queue.is_empty() {
                    return Err(UploadError::Backpressure);
                }
            }
            None if bytes + data.len() > limits.starting_bytes_max => {
                return Err(UploadError::TooLargeForStart);
            }
            None if chunks >= limits.starting_chunks_max => {
                return Err(UploadError::StartQueueFull);
            }
            None if starting + data.len() > shared.starting_bytes_max => {
                return Err(UploadError::Overloaded);
            }
            None => upload.starting = (chunks + 1, bytes + data.len()),
        }
        if kept && !has_room {
            return Err(UploadError::Overloaded);
        }
        Ok(())
    }

    pub(crate) fn accept(&mut self, now: u64, id: usize, terms: Terms) -> Result<(), Refused> {
        let Some(index) = self.index(id).filter(|i| self.uploads[*i].terms.is_none()) else {
            return Err(UploadError::Over);
        };
        let running = self.running();
        let upload = &self.uploads[index];
        let earlier = &self.uploads[..index];
        let before = earlier.iter().filter(|u| u.conn == upload.conn).count();
        let offset = upload.offset.unwrap_or(0);
        let error = if offset != 0 {
            let wrong = UploadError::WrongOffset { at: 0, offset };
            self.uploads[index].taken = 0;
            self.fail_with(id, wrong.code(), Some(0));
            return Err(wrong);
        } else if before >= terms.per_connection_max {
            UploadError::TooManyOnConnection
        } else if upload.received > terms.size_max {
            UploadError::TooLarge
        } else if running >= terms.total_max {
            UploadError::TooMany
        } else {
            let upload = &mut self.uploads[index];
            upload.terms = Some(terms);
            upload.starting.1 = 0;
            upload.checked_at = upload.received;
            self.settle(now, index);
            return Ok(());
        };
        self.fail(id, error.code());
        Err(error)
    }

    pub(crate) fn take(&mut self, now: u64, id: usize) -> Take {
        let Some(index) = self.index(id) else {
            return Take::Gone;
        };
        let upload = &mut self.uploads[index];
        if upload.queue.is_empty() {
            upload.asleep |= !upload.ended;
            return if upload.ended { Take::End } else { Take::Wait };
        }
        let chunk = upload.queue.remove(0);
        upload.taken += chunk.len() as u64;
        self.settle(now, index);
        Take::Chunk(chunk)
    }

    fn settle(&mut self, now: u64, index: usize) {
        let limits = self.limits;
        let upload = &mut self.uploads[index];
        let Some(terms) = upload.terms else {
            if upload.asleep && upload.has_something() {
                upload.asleep = false;
                self.said.push(Said::Readable(upload.id));
            }
            return;
        };
        if upload.asleep && upload.has_something() {
            upload.asleep = false;
            self.said.push(Said::Readable(upload.id));
        }
        let half = if upload.blocking { 2 } else { 1 };
        let more = usize::from(upload.blocking);
        let many = upload.queue.len() >= (terms.waiting_chunks_max / half + more).max(1);
        let large = upload.waiting() >= limits.waiting_bytes_max / 2 / half + more;
        let block = !upload.ended && !upload.queue.is_empty() && (many || large);
        let (id, conn, waits) = (upload.id, upload.conn, !upload.has_something());
        self.block(index, conn, block);
        let listed = self.idle.contains(&id);
        self.idle.retain(|other| *other != id);
        self.uploads[index].idle_since = None;
        if waits {
            self.begin_idle(now, id);
        } else {
            debug_assert!(listed || !self.idle.contains(&id));
        }
    }

    fn begin_idle(&mut self, now: u64, id: usize) {
        let last = self
            .idle
            .last()
            .and_then(|last| self.by_id(*last)?.idle_since);
        let since = last.map_or(now, |last| last.max(now));
        self.idle.push(id);
        if let Some(index) = self.index(id) {
            self.uploads[index].idle_since = Some(since);
        }
    }

    fn block(&mut self, index: usize, conn: u64, block: bool) {
        let before = self.is_paused(conn);
        self.uploads[index].blocking = block;
        match (before, self.is_paused(conn)) {
            (false, true) => self.said.push(Said::Pause(conn)),
            (true, false) => self.said.push(Said::Resume(conn)),
            _ => {}
        }
    }

    /// Takes an upload out. Its connection may be read on.
    fn remove(&mut self, id: usize) -> Option<Upload> {
        let index = self.index(id)?;
        let conn = self.uploads[index].conn;
        self.block(index, conn, false);
        self.idle.retain(|other| *other != id);
        Some(self.uploads.remove(index))
    }

    fn fail(&mut self, id: usize, code: &str) {
        let upload = self.by_id(id).expect("is there");
        let asked = upload.offset.is_some() && upload.terms.is_some();
        let continue_at = asked.then_some(upload.taken);
        self.fail_with(id, code, continue_at);
    }

    fn fail_with(&mut self, id: usize, code: &str, continue_at: Option<u64>) {
        let upload = self.remove(id).expect("is there");
        self.reply(upload.conn, upload.number, Some(code), continue_at);
        self.said
            .push(Said::Aborted(id, code.to_owned(), upload.taken));
    }

    pub(crate) fn finish(&mut self, id: usize, well: bool) -> bool {
        let Some(upload) = self.remove(id) else {
            return false;
        };
        let asked = !well && upload.offset.is_some() && upload.terms.is_some();
        let code = (!well).then_some("NO");
        self.reply(
            upload.conn,
            upload.number,
            code,
            asked.then_some(upload.taken),
        );
        true
    }

    pub(crate) fn reauthorized(&mut self, id: usize, well: bool) -> bool {
        let Some(index) = self.index(id) else {
            return false;
        };
        self.uploads[index].checking = false;
        if !well {
            self.fail(id, "REVOKED");
        }
        true
    }

    pub(crate) fn cancel(&mut self, conn: u64, number: u32) {
        let found = self
            .uploads
            .iter()
            .find(|u| u.conn == conn && u.number == number);
        if let Some(id) = found.map(|u| u.id) {
            self.fail(id, "CANCELLED");
        }
    }

    pub(crate) fn close(&mut self, conn: u64) {
        self.announced.remove(&conn);
        let (gone, kept) = self
            .uploads
            .drain(..)
            .partition(|u: &Upload| u.conn == conn);
        self.uploads = kept;
        for upload in gone {
            self.idle.retain(|other| *other != upload.id);
            let code = "DISCONNECTED".to_owned();
            self.said.push(Said::Aborted(upload.id, code, upload.taken));
        }
    }

    pub(crate) fn timeout(&mut self, now: u64) {
        while self.next_deadline().is_some_and(|due| due <= now) {
            let id = self.idle[0];
            let conn = self.by_id(id).expect("is there").conn;
            if self.is_paused(conn) {
                self.idle.remove(0);
                self.begin_idle(now, id);
            } else {
                self.fail(id, "TIMEOUT");
            }
        }
    }
}
