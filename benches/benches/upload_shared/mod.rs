//! What the upload benchmarks share.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{ConnId, Millis, Random, RawJson, SeededRandom};
use millstream_upload::{
    Budget, BudgetLimits, Chunk, Event, Limits, Take, Terms, UploadKey, Uploads,
};
use millstream_wire::{BinaryFrame, recognise_binary};

const NOW: Millis = Millis::ZERO;

/// Uploads that are running, one on each connection.
pub(crate) struct Transfers {
    uploads: Uploads,
    running: Vec<(UploadKey, u32)>,
    payload: Bytes,
    frame: Vec<u8>,
    header: RawJson,
    random: SeededRandom,
}

impl Transfers {
    /// So many uploads, with chunks of so many bytes.
    pub(crate) fn new(count: u64, bytes: usize) -> Self {
        let limits = Limits {
            uploads_max: 2_000_000,
            ..Limits::default()
        };
        let budget = Arc::new(Budget::new(BudgetLimits::default()));
        let header = RawJson::parse(Bytes::from_static(br#"{"rpc":"files/put"}"#));
        let payload = vec![7; bytes];
        let mut transfers = Self {
            uploads: Uploads::new(limits, budget),
            running: Vec::new(),
            frame: [&[1, 0, 0, 0, 0, 1, 0, 0, 0, 0], payload.as_slice()].concat(),
            payload: payload.into(),
            header: header.expect("JSON"),
            random: SeededRandom::new(1),
        };
        for conn in 0..count {
            let key = transfers.open(conn, 1);
            transfers.running.push((key, 0));
            // The first chunk makes room for the next ones.
            let payload = transfers.payload.clone();
            transfers.chunk(conn as usize, payload);
        }
        transfers
    }

    fn open(&mut self, conn: u64, upload: u32) -> UploadKey {
        let chunk = Chunk {
            upload,
            number: 0,
            last: false,
            header: Some(self.header.clone()),
            payload: Bytes::new(),
        };
        self.uploads
            .handle_chunk(NOW, ConnId::from_u64(conn), chunk);
        let Some(Event::Opened { key, .. }) = self.uploads.poll_event() else {
            unreachable!("there is room");
        };
        let accepted = self.uploads.accept(
            NOW,
            key,
            Terms {
                size_max: u64::MAX,
                ..Terms::default()
            },
        );
        accepted.expect("within the terms");
        key
    }

    /// A chunk of any upload arrives and is taken by its handler. When an upload has had 2^32
    /// chunks, it fails; no run is that long.
    pub(crate) fn chunk_any(&mut self) -> usize {
        let index = self.random.below(self.running.len() as u64) as usize;
        let payload = self.payload.clone();
        self.chunk(index, payload)
    }

    /// The same from the bytes of the frame, shared as a read buffer would be.
    pub(crate) fn frame(&mut self) -> usize {
        let number = self.running[0].1 + 1;
        self.frame[6..10].copy_from_slice(&number.to_be_bytes());
        let frame = Bytes::from(std::mem::take(&mut self.frame));
        let payload = match recognise_binary(&frame) {
            Some(BinaryFrame::Chunk(chunk)) => frame.slice_ref(chunk.payload),
            _ => unreachable!("a chunk"),
        };
        let taken = self.chunk(0, payload);
        self.frame = frame.try_into_mut().expect("everything was taken").into();
        taken
    }

    fn chunk(&mut self, index: usize, payload: Bytes) -> usize {
        let (key, number) = &mut self.running[index];
        *number += 1;
        let chunk = Chunk {
            upload: 1,
            number: *number,
            last: false,
            header: None,
            payload,
        };
        let conn = ConnId::from_u64(index as u64);
        self.uploads.handle_chunk(NOW, conn, chunk);
        match self.uploads.take(NOW, *key) {
            Take::Chunk(bytes) => bytes.len(),
            _ => unreachable!("it has just come"),
        }
    }

    /// An upload without bytes is opened, accepted, finished and replied to.
    pub(crate) fn whole(&mut self) -> usize {
        let conn = self.random.below(self.running.len() as u64);
        let key = self.open(conn, 2);
        self.uploads.finish(key, Ok(RawJson::NULL));
        match self.uploads.poll_event() {
            Some(Event::Reply(reply)) => reply.upload as usize,
            _ => unreachable!("a reply"),
        }
    }
}
