//! What an upload and a chunk take.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{ConnId, Millis, RawJson};
use millstream_upload::{Budget, CHUNK_COST, Chunk, Event, Limits, Take, Terms, Uploads};

const NOW: Millis = Millis::ZERO;

fn table(uploads_max: usize) -> Uploads {
    let limits = Limits {
        uploads_max,
        ..Limits::default()
    };
    Uploads::new(limits, Arc::new(Budget::default()))
}

fn chunk(number: u32, header: Option<RawJson>) -> Chunk {
    Chunk {
        upload: 1,
        number,
        last: false,
        header,
        payload: Bytes::from_static(b"payload"),
    }
}

fn header() -> RawJson {
    RawJson::parse(Bytes::from_static(br#"{"rpc":"files/put"}"#)).unwrap()
}

#[test]
fn chunks_come_and_go_without_allocating() {
    let mut uploads = table(10);
    let conn = ConnId::from_u64(1);
    uploads.handle_chunk(NOW, conn, chunk(0, Some(header())));
    let Some(Event::Opened { key, .. }) = uploads.poll_event() else {
        panic!("opened");
    };
    uploads.accept(NOW, key, Terms::default()).unwrap();
    let mut turn = |number: u32| {
        uploads.handle_chunk(NOW, conn, chunk(number, None));
        while let Take::Chunk(_) = uploads.take(NOW, key) {}
        while uploads.poll_event().is_some() {}
    };
    turn(1);
    let measured = allocation_counter::measure(|| (2..10_000).for_each(&mut turn));
    assert_eq!(measured.count_total, 0);
}

#[test]
fn an_upload_takes_what_the_documentation_says() {
    let count = 57_344;
    let mut uploads = table(count);
    let header = header();
    let measured = allocation_counter::measure(|| {
        for conn in 0..count {
            let mut chunk = chunk(0, Some(header.clone()));
            chunk.payload = Bytes::new();
            uploads.handle_chunk(NOW, ConnId::from_u64(conn as u64), chunk);
            while uploads.poll_event().is_some() {}
        }
    });
    assert_eq!(uploads.len(), count);
    let each = usize::try_from(measured.bytes_current).unwrap() / count;
    // The upload, its place in the table, and its connection.
    assert!((240..=310).contains(&each), "{each}");
}

#[test]
fn a_chunk_that_waits_takes_no_more_than_it_is_charged() {
    let limits = Limits {
        overrun_chunks_max: 1_000_000,
        ..Limits::default()
    };
    let budget = Arc::new(Budget::default());
    let mut uploads = Uploads::new(limits, Arc::clone(&budget));
    let conn = ConnId::from_u64(1);
    uploads.handle_chunk(NOW, conn, chunk(0, Some(header())));
    let Some(Event::Opened { key, .. }) = uploads.poll_event() else {
        panic!("opened");
    };
    uploads.accept(NOW, key, Terms::default()).unwrap();
    // One after doubling is the worst.
    let measured = allocation_counter::measure(|| {
        for number in 1..=32_768 {
            uploads.handle_chunk(NOW, conn, chunk(number, None));
        }
    });
    let charged = budget.waiting_bytes();
    assert_eq!(charged, 32_769 * (7 + CHUNK_COST));
    let bytes = usize::try_from(measured.bytes_current).unwrap();
    assert!(bytes <= charged, "{bytes}, {charged} charged");
}
