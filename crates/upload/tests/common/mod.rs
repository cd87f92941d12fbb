//! The engine next to a naive model of it, driven by bytes. Used by the property test and, by path,
//! by the fuzz target.

mod model;

use core::num::NonZeroU64;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{ConnId, Millis, RawJson};
use millstream_upload::{
    Budget, BudgetLimits, Chunk, Event, Failure, Limits, Take, Terms, UploadError, UploadKey,
    Uploads,
};
use model::{Model, Said};

const CONNS: u64 = 3;
const NUMBERS: u32 = 5;

/// Engine, model, and the names of uploads the host knows.
pub(crate) struct Rig {
    engine: Uploads,
    budget: Arc<Budget>,
    model: Model,
    /// The engine's names of the model's uploads, in the order of opening, those that are over
    /// too.
    keys: Vec<(UploadKey, usize)>,
    now: u64,
    content: u8,
}

fn limits(choice: u8) -> (Limits, BudgetLimits) {
    let pick = |bit: u8, small: usize, large: usize| {
        if choice & (1 << bit) == 0 {
            large
        } else {
            small
        }
    };
    let limits = Limits {
        uploads_max: pick(0, 4, 100),
        per_connection_max: pick(0, 3, 50),
        starting_chunks_max: u32::try_from(pick(1, 3, 60)).expect("small"),
        starting_bytes_max: pick(1, 30, 10_000),
        overrun_chunks_max: pick(2, 0, 2),
        waiting_bytes_max: pick(3, 300, 100_000),
        idle_after: Duration::from_millis(50),
        frame_bytes_max: (choice & 128 != 0).then_some(9),
    };
    let budget = BudgetLimits {
        starting_bytes_max: pick(4, 60, 100_000),
        waiting_bytes_max: pick(5, 500, 1_000_000),
    };
    (limits, budget)
}

fn terms(choice: u8) -> Terms {
    Terms {
        size_max: [1_000, 40, 100, 0][usize::from(choice % 4)],
        waiting_chunks_max: usize::from(choice / 4 % 4),
        per_connection_max: 1 + usize::from(choice / 16 % 4),
        total_max: if choice & 64 == 0 { u32::MAX } else { 2 },
        reauthorize_every: NonZeroU64::new(u64::from(choice / 64) * 7),
        continue_from: 0,
    }
}

impl Rig {
    pub(crate) fn new(choice: u8) -> Self {
        let (limits, shared) = limits(choice);
        let budget = Arc::new(Budget::new(shared));
        Self {
            engine: Uploads::new(limits, Arc::clone(&budget)),
            budget,
            model: Model::new(limits, shared),
            keys: Vec::new(),
            now: 0,
            content: 0,
        }
    }

    /// Runs operations of four bytes, then ends everything and looks whether anything is left.
    pub(crate) fn run(mut self, bytes: &[u8]) {
        for step in bytes.chunks_exact(4) {
            self.step([step[0], step[1], step[2], step[3]]);
            self.compare();
        }
        for conn in 0..CONNS {
            self.engine.handle_close(ConnId::from_u64(conn));
            self.model.close(conn);
        }
        self.compare();
        assert!(self.engine.is_empty());
        assert_eq!(self.engine.connections(), 0);
        assert_eq!(self.engine.next_deadline(), None);
        let left = (
            self.budget.running(),
            self.budget.starting_bytes(),
            self.budget.waiting_bytes(),
        );
        assert_eq!(left, (0, 0, 0));
    }

    fn step(&mut self, [what, which, how, amount]: [u8; 4]) {
        let conn = u64::from(which) % CONNS;
        let number = u32::from(which) / 8 % NUMBERS;
        match what % 16 {
            0..=2 => self.open(conn, number, how, amount),
            3..=7 => self.chunk(conn, number, how, amount),
            8 => {
                self.engine.handle_cancel(ConnId::from_u64(conn), number);
                self.model.cancel(conn, number);
            }
            9 | 10 => self.accept(which, how),
            11 | 12 => self.take(which, how),
            13 => self.finish(which, how),
            14 => self.reauthorized(which, how),
            _ => self.rare(conn, how, amount),
        }
    }

    fn payload(&mut self, amount: u8) -> Bytes {
        self.content = self.content.wrapping_add(1);
        Bytes::from(vec![self.content; usize::from(amount % 48)])
    }

    fn open(&mut self, conn: u64, number: u32, how: u8, amount: u8) {
        let text = match how % 8 {
            0 => r#"{"args":[]}"#,
            1 => "null",
            2 => r#"{"rpc":"a/b","offset":10}"#,
            _ => r#"{"rpc":"a/b","args":[1]}"#,
        };
        let payload = self.payload(amount);
        let chunk = Chunk {
            upload: number,
            number: 0,
            last: how & 16 != 0,
            header: Some(RawJson::parse(text.into()).expect("JSON")),
            payload: payload.clone(),
        };
        let (last, conn_id) = (chunk.last, ConnId::from_u64(conn));
        self.engine
            .handle_chunk(Millis::from_millis(self.now), conn_id, chunk);
        self.model.open(conn, number, text, last, payload);
    }

    fn chunk(&mut self, conn: u64, number: u32, how: u8, amount: u8) {
        let expected = self.model.expected(conn, number);
        let at = match how % 16 {
            0 => expected + 1,
            1 => expected.saturating_sub(1).max(1),
            _ => expected,
        };
        let payload = self.payload(amount);
        let chunk = Chunk {
            upload: number,
            number: at,
            last: how & 48 == 48,
            header: None,
            payload: payload.clone(),
        };
        let last = chunk.last;
        let now = Millis::from_millis(self.now);
        self.engine.handle_chunk(now, ConnId::from_u64(conn), chunk);
        self.model.chunk(self.now, conn, number, at, last, payload);
    }

    /// Any upload that ever was.
    fn any(&self, which: u8) -> Option<(UploadKey, usize)> {
        let count = self.keys.len().min(8);
        let back = usize::from(which) % count.max(1);
        self.keys
            .len()
            .checked_sub(back + 1)
            .map(|index| self.keys[index])
    }

    fn accept(&mut self, which: u8, how: u8) {
        let Some((key, id)) = self.any(which) else {
            return;
        };
        let offered = terms(how);
        let now = Millis::from_millis(self.now);
        let accepted = self.engine.accept(now, key, offered);
        assert_eq!(accepted, self.model.accept(self.now, id, offered));
    }

    fn take(&mut self, which: u8, how: u8) {
        let Some((key, id)) = self.any(which) else {
            return;
        };
        for _ in 0..=how % 4 {
            let taken = self.engine.take(Millis::from_millis(self.now), key);
            assert_eq!(taken, self.model.take(self.now, id));
            if !matches!(taken, Take::Chunk(_)) {
                return;
            }
        }
    }

    fn finish(&mut self, which: u8, how: u8) {
        let Some((key, id)) = self.any(which) else {
            return;
        };
        let there = match how % 2 {
            0 => self.engine.finish(key, Ok(RawJson::NULL)),
            _ => self.engine.refuse(key, Failure::new("NO", "no")),
        };
        assert_eq!(there, self.model.finish(id, how.is_multiple_of(2)));
    }

    fn reauthorized(&mut self, which: u8, how: u8) {
        let Some((key, id)) = self.any(which) else {
            return;
        };
        let verdict = match how % 3 {
            0 => Err(Failure::new("REVOKED", "revoked")),
            _ => Ok(()),
        };
        let there = self.engine.reauthorized(key, verdict);
        assert_eq!(there, self.model.reauthorized(id, !how.is_multiple_of(3)));
    }

    fn rare(&mut self, conn: u64, how: u8, amount: u8) {
        match how % 4 {
            0 => {
                self.engine.handle_close(ConnId::from_u64(conn));
                self.model.close(conn);
            }
            _ => {
                self.now += u64::from(amount % 64);
                self.engine.handle_timeout(Millis::from_millis(self.now));
                self.model.timeout(self.now);
            }
        }
    }

    fn compare(&mut self) {
        let mut said = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            said.push(self.translate(event));
        }
        let expected = core::mem::take(&mut self.model.said);
        assert_eq!(said, expected);
        assert_eq!(self.engine.len(), self.model.uploads.len());
        assert_eq!(
            self.engine.next_deadline().map(Millis::as_millis),
            self.model.next_deadline()
        );
        assert_eq!(self.budget.running(), self.model.running());
        assert_eq!(self.budget.starting_bytes(), self.model.starting_bytes());
        assert_eq!(self.budget.waiting_bytes(), self.model.waiting_bytes());
        for conn in 0..CONNS {
            let paused = self.engine.is_paused(ConnId::from_u64(conn));
            assert_eq!(paused, self.model.is_paused(conn));
        }
    }

    /// An event in the model's words.
    fn translate(&mut self, event: Event) -> Said {
        let id_of = |keys: &[(UploadKey, usize)], key: UploadKey| {
            keys.iter()
                .find(|(other, _)| *other == key)
                .expect("was opened")
                .1
        };
        match event {
            Event::Opened {
                key, conn, upload, ..
            } => {
                let id = self.keys.len();
                self.keys.push((key, id));
                Said::Opened(id, conn.to_u64(), upload)
            }
            Event::Readable { key } => Said::Readable(id_of(&self.keys, key)),
            Event::Reauthorize { key } => Said::Reauthorize(id_of(&self.keys, key)),
            Event::Aborted {
                key,
                failure,
                taken,
            } => Said::Aborted(id_of(&self.keys, key), failure.code.into_owned(), taken),
            Event::Reply(reply) => Said::Reply {
                conn: reply.conn.to_u64(),
                upload: reply.upload,
                code: reply.result.err().map(|failure| failure.code.into_owned()),
                announced: reply.frame_bytes_max.is_some(),
                continue_at: reply.continue_at,
            },
            Event::PauseReading { conn } => Said::Pause(conn.to_u64()),
            Event::ResumeReading { conn } => Said::Resume(conn.to_u64()),
            other => panic!("an event nobody knows: {other:?}"),
        }
    }
}

/// The model gives the engine's errors by kind.
pub(crate) type Refused = UploadError;
