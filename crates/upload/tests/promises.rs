//! What the uploads of a connection can rely on, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::num::NonZeroU64;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{ConnId, Millis, RawJson};
use millstream_upload::{
    Budget, BudgetLimits, Chunk, Event, Failure, Limits, Reply, Take, Terms, UploadError,
    UploadKey, Uploads,
};
use millstream_wire::{BinaryFrame, UploadChunk, encode_chunk, recognise_binary};

const NOW: Millis = Millis::ZERO;
const CONN: ConnId = ConnId::from_u64(1);
const OTHER: ConnId = ConnId::from_u64(2);

fn at(ms: u64) -> Millis {
    Millis::from_millis(ms)
}

fn table(limits: Limits) -> (Uploads, Arc<Budget>) {
    let budget = Arc::new(Budget::default());
    (Uploads::new(limits, Arc::clone(&budget)), budget)
}

fn first(upload: u32, header: &str, payload: &'static [u8]) -> Chunk {
    Chunk {
        upload,
        number: 0,
        last: false,
        header: Some(RawJson::parse(Bytes::from(header.to_owned())).unwrap()),
        payload: Bytes::from_static(payload),
    }
}

fn next(upload: u32, number: u32, payload: &'static [u8]) -> Chunk {
    Chunk {
        upload,
        number,
        last: false,
        header: None,
        payload: Bytes::from_static(payload),
    }
}

const HEADER: &str = r#"{"rpc":"files/put"}"#;

/// Opens an upload and gives its key.
fn open(uploads: &mut Uploads, conn: ConnId, upload: u32, payload: &'static [u8]) -> UploadKey {
    uploads.handle_chunk(NOW, conn, first(upload, HEADER, payload));
    match events(uploads).pop() {
        Some(Event::Opened { key, .. }) => key,
        other => panic!("{other:?}"),
    }
}

fn events(uploads: &mut Uploads) -> Vec<Event> {
    core::iter::from_fn(|| uploads.poll_event()).collect()
}

fn codes(uploads: &mut Uploads) -> Vec<String> {
    let events = events(uploads).into_iter();
    let replies = events.filter_map(|event| match event {
        Event::Reply(Reply { result, .. }) => {
            Some(result.map_or_else(|failure| failure.code.into_owned(), |_| "ok".into()))
        }
        _ => None,
    });
    replies.collect()
}

fn left(budget: &Budget) -> (u32, usize, usize) {
    (
        budget.running(),
        budget.starting_bytes(),
        budget.waiting_bytes(),
    )
}

#[test]
fn a_chunk_is_a_slice_of_the_frame_it_came_in() {
    let mut out = Vec::new();
    let chunk = UploadChunk {
        upload: 1,
        number: 1,
        last: false,
        header: None,
        payload: b"the payload",
    };
    encode_chunk(&mut out, &chunk).unwrap();
    let frame = Bytes::from(out);
    let Some(BinaryFrame::Chunk(chunk)) = recognise_binary(&frame) else {
        panic!("a chunk");
    };
    let (mut uploads, _) = table(Limits::default());
    let key = open(&mut uploads, CONN, 1, b"");
    uploads.accept(NOW, key, Terms::default()).unwrap();
    let chunk = Chunk {
        upload: chunk.upload,
        number: chunk.number,
        last: chunk.last,
        header: None,
        payload: frame.slice_ref(chunk.payload),
    };
    uploads.handle_chunk(NOW, CONN, chunk);
    let Take::Chunk(taken) = uploads.take(NOW, key) else {
        panic!("bytes");
    };
    assert_eq!(taken.as_ptr(), frame[10..].as_ptr());
    assert_eq!(&*taken, b"the payload");
}

#[test]
fn every_ending_gives_everything_back() {
    type Ending = fn(&mut Uploads, UploadKey) -> bool;
    let endings: [(&str, Ending); 9] = [
        ("finished", |u, key| u.finish(key, Ok(RawJson::NULL))),
        ("failed", |u, key| {
            u.finish(key, Err(Failure::new("A", "b")))
        }),
        ("revoked", |u, key| {
            u.reauthorized(key, Err(Failure::new("A", "b")))
        }),
        ("cancelled", |u, _| {
            u.handle_cancel(CONN, 1);
            true
        }),
        ("closed", |u, _| {
            u.handle_close(CONN);
            true
        }),
        ("out of order", |u, _| {
            u.handle_chunk(NOW, CONN, next(1, 9, b""));
            true
        }),
        ("too large", |u, _| {
            u.handle_chunk(NOW, CONN, next(1, 2, &[0; 100]));
            true
        }),
        ("silent", |u, key| {
            while let Take::Chunk(_) = u.take(NOW, key) {}
            u.handle_timeout(at(1_000_000));
            true
        }),
        ("dropped", |u, _| {
            *u = Uploads::new(Limits::default(), Arc::new(Budget::default()));
            true
        }),
    ];
    for (name, end) in endings {
        let (mut uploads, budget) = table(Limits::default());
        let key = open(&mut uploads, CONN, 1, b"abc");
        assert_eq!(
            (budget.running(), budget.starting_bytes()),
            (0, 3),
            "{name}"
        );
        let terms = Terms {
            size_max: 50,
            ..Terms::default()
        };
        uploads.accept(NOW, key, terms).unwrap();
        uploads.handle_chunk(NOW, CONN, next(1, 1, b"def"));
        assert_eq!(
            (budget.running(), budget.starting_bytes()),
            (1, 0),
            "{name}"
        );
        assert!(budget.waiting_bytes() > 6, "{name}");
        assert!(end(&mut uploads, key), "{name}");
        assert_eq!(left(&budget), (0, 0, 0), "{name}");
        assert!(uploads.is_empty(), "{name}");
        assert_eq!(uploads.next_deadline(), None, "{name}");
    }
}

#[test]
fn an_old_handler_cannot_touch_a_new_upload_of_the_same_number() {
    let (mut uploads, _) = table(Limits::default());
    let old = open(&mut uploads, CONN, 1, b"old");
    uploads.accept(NOW, old, Terms::default()).unwrap();
    uploads.handle_cancel(CONN, 1);
    let new = open(&mut uploads, CONN, 1, b"new");
    assert!(!uploads.finish(old, Ok(RawJson::NULL)));
    assert!(!uploads.reauthorized(old, Err(Failure::new("A", "b"))));
    assert_eq!(
        uploads.accept(NOW, old, Terms::default()),
        Err(UploadError::Over)
    );
    assert_eq!(uploads.take(NOW, old), Take::Gone);
    assert!(events(&mut uploads).is_empty());
    uploads.accept(NOW, new, Terms::default()).unwrap();
    assert_eq!(
        uploads.accept(NOW, new, Terms::default()),
        Err(UploadError::Over)
    );
    assert_eq!(
        uploads.take(NOW, new),
        Take::Chunk(Bytes::from_static(b"new"))
    );
}

#[test]
fn a_close_lowers_the_process_wide_count_once() {
    let (mut uploads, budget) = table(Limits::default());
    let terms = Terms {
        total_max: 2,
        ..Terms::default()
    };
    for upload in 1..=2 {
        let key = open(&mut uploads, CONN, upload, b"");
        uploads.accept(NOW, key, terms).unwrap();
    }
    uploads.handle_close(CONN);
    uploads.handle_close(CONN);
    assert_eq!(budget.running(), 0);
    let mut accepted = 0;
    for upload in 1..=5 {
        let key = open(&mut uploads, OTHER, upload, b"");
        accepted += u32::from(uploads.accept(NOW, key, terms).is_ok());
    }
    assert_eq!((accepted, budget.running()), (2, 2));
}

#[test]
fn tables_of_one_process_share_its_limits() {
    let budget = Arc::new(Budget::new(BudgetLimits {
        starting_bytes_max: 10,
        waiting_bytes_max: 1_000,
    }));
    let mut one = Uploads::new(Limits::default(), Arc::clone(&budget));
    let mut two = Uploads::new(Limits::default(), Arc::clone(&budget));
    let key = open(&mut one, CONN, 1, b"12345678");
    two.handle_chunk(NOW, OTHER, first(1, HEADER, b"123"));
    assert_eq!(codes(&mut two), ["OVERLOADED"]);
    one.accept(NOW, key, Terms::default()).unwrap();
    two.handle_chunk(NOW, OTHER, first(1, HEADER, b"123"));
    assert_eq!(two.len(), 1);
    drop(one);
    assert_eq!(left(&budget), (0, 3, 67));
}

#[test]
fn a_slow_handler_pauses_reading_and_half_taken_resumes_it() {
    let (mut uploads, _) = table(Limits::default());
    let terms = Terms {
        waiting_chunks_max: 4,
        ..Terms::default()
    };
    let key = open(&mut uploads, CONN, 1, b"");
    uploads.accept(NOW, key, terms).unwrap();
    for number in 1..=3 {
        uploads.handle_chunk(NOW, CONN, next(1, number, b"x"));
    }
    assert!(!uploads.is_paused(CONN));
    uploads.handle_chunk(NOW, CONN, next(1, 4, b"x"));
    assert_eq!(events(&mut uploads), [Event::PauseReading { conn: CONN }]);
    // What was read already is still taken.
    uploads.handle_chunk(NOW, CONN, next(1, 5, b"x"));
    for left in (1..5).rev() {
        assert_eq!(
            uploads.take(NOW, key),
            Take::Chunk(Bytes::from_static(b"x"))
        );
        assert_eq!(uploads.is_paused(CONN), left > 2, "{left} left");
    }
    assert_eq!(events(&mut uploads), [Event::ResumeReading { conn: CONN }]);
    assert_eq!(uploads.stats().pauses, 1);
}

#[test]
fn reading_resumes_when_the_upload_that_paused_it_ends() {
    for close in [false, true] {
        let (mut uploads, _) = table(Limits::default());
        let terms = Terms {
            waiting_chunks_max: 1,
            ..Terms::default()
        };
        for upload in [1, 2] {
            let key = open(&mut uploads, CONN, upload, b"x");
            uploads.accept(NOW, key, terms).unwrap();
        }
        assert!(uploads.is_paused(CONN));
        drop(events(&mut uploads));
        uploads.handle_cancel(CONN, 1);
        assert!(uploads.is_paused(CONN), "the other one is still behind");
        if close {
            uploads.handle_close(CONN);
        } else {
            uploads.handle_cancel(CONN, 2);
        }
        assert!(!uploads.is_paused(CONN));
        let resumed = events(&mut uploads).contains(&Event::ResumeReading { conn: CONN });
        assert_eq!(resumed, !close, "nobody reads from a closed connection");
    }
}

#[test]
fn a_host_that_cannot_pause_fails_the_upload_as_the_original_does() {
    let (mut uploads, _) = table(Limits {
        overrun_chunks_max: 0,
        ..Limits::default()
    });
    let terms = Terms {
        waiting_chunks_max: 3,
        ..Terms::default()
    };
    let key = open(&mut uploads, CONN, 1, b"");
    uploads.accept(NOW, key, terms).unwrap();
    for number in 1..=3 {
        uploads.handle_chunk(NOW, CONN, next(1, number, b"x"));
    }
    uploads.handle_chunk(NOW, CONN, next(1, 4, b""));
    assert!(
        codes(&mut uploads).is_empty(),
        "an empty chunk needs no room"
    );
    uploads.handle_chunk(NOW, CONN, next(1, 5, b"x"));
    assert_eq!(codes(&mut uploads), ["FLOW_BACKPRESSURE"]);
}

#[test]
fn what_waits_is_bounded_in_bytes_but_one_chunk_always_fits() {
    let (mut uploads, _) = table(Limits {
        waiting_bytes_max: 100,
        ..Limits::default()
    });
    let key = open(&mut uploads, CONN, 1, b"");
    uploads.accept(NOW, key, Terms::default()).unwrap();
    uploads.handle_chunk(NOW, CONN, next(1, 1, &[7; 5_000]));
    assert!(matches!(uploads.take(NOW, key), Take::Chunk(chunk) if chunk.len() == 5_000));
    uploads.handle_chunk(NOW, CONN, next(1, 2, &[7; 36]));
    assert!(codes(&mut uploads).is_empty());
    uploads.handle_chunk(NOW, CONN, next(1, 3, &[7; 1]));
    assert_eq!(codes(&mut uploads), ["FLOW_BACKPRESSURE"]);
}

#[test]
fn before_the_start_chunks_and_bytes_are_bounded() {
    let (mut uploads, budget) = table(Limits {
        starting_bytes_max: 10,
        ..Limits::default()
    });
    open(&mut uploads, CONN, 1, b"1234567890");
    uploads.handle_chunk(NOW, CONN, next(1, 1, b"1"));
    assert_eq!(codes(&mut uploads), ["PAYLOAD_TOO_LARGE"]);
    open(&mut uploads, CONN, 2, b"");
    for number in 1..=63 {
        uploads.handle_chunk(NOW, CONN, next(2, number, b""));
    }
    assert!(codes(&mut uploads).is_empty());
    uploads.handle_chunk(NOW, CONN, next(2, 64, b""));
    assert_eq!(codes(&mut uploads), ["FLOW_BACKPRESSURE"]);
    uploads.handle_chunk(NOW, CONN, first(3, HEADER, b"12345678901"));
    assert_eq!(codes(&mut uploads), ["PAYLOAD_TOO_LARGE"]);
    assert_eq!(left(&budget), (0, 0, 0));
}

#[test]
fn openings_are_bounded_by_connection_and_in_all() {
    let (mut uploads, _) = table(Limits {
        per_connection_max: 2,
        uploads_max: 3,
        ..Limits::default()
    });
    open(&mut uploads, CONN, 1, b"");
    open(&mut uploads, CONN, 2, b"");
    uploads.handle_chunk(NOW, CONN, first(3, HEADER, b""));
    open(&mut uploads, OTHER, 1, b"");
    uploads.handle_chunk(NOW, OTHER, first(2, HEADER, b""));
    assert_eq!(codes(&mut uploads), ["TOO_MANY_UPLOADS"; 1]);
    assert_eq!(uploads.stats().failed_too_many, 2);
    assert_eq!(uploads.len(), 3);
}

#[test]
fn a_silent_client_is_given_up_and_a_slow_handler_is_not_its_fault() {
    let (mut uploads, _) = table(Limits {
        idle_after: Duration::from_secs(10),
        ..Limits::default()
    });
    let key = open(&mut uploads, CONN, 1, b"x");
    assert_eq!(
        uploads.next_deadline(),
        None,
        "not accepted: the host is slow"
    );
    uploads.accept(NOW, key, Terms::default()).unwrap();
    assert_eq!(
        uploads.next_deadline(),
        None,
        "something waits: the handler is slow"
    );
    assert!(matches!(uploads.take(at(5_000), key), Take::Chunk(_)));
    assert_eq!(uploads.next_deadline(), Some(at(15_000)));
    uploads.handle_chunk(at(14_000), CONN, next(1, 1, b""));
    assert_eq!(
        uploads.next_deadline(),
        Some(at(24_000)),
        "an empty chunk is a sign of life"
    );
    uploads.handle_timeout(at(23_999));
    assert!(codes(&mut uploads).is_empty());
    uploads.handle_timeout(at(24_000));
    assert_eq!(codes(&mut uploads), ["TIMEOUT"]);
    assert_eq!(uploads.take(at(24_000), key), Take::Gone);
}

#[test]
fn a_client_that_is_not_read_from_is_not_silent() {
    let (mut uploads, _) = table(Limits {
        idle_after: Duration::from_secs(10),
        ..Limits::default()
    });
    let terms = Terms {
        waiting_chunks_max: 1,
        ..Terms::default()
    };
    let waits = open(&mut uploads, CONN, 1, b"");
    uploads.accept(NOW, waits, terms).unwrap();
    let behind = open(&mut uploads, CONN, 2, b"x");
    uploads.accept(NOW, behind, terms).unwrap();
    assert!(uploads.is_paused(CONN));
    uploads.handle_timeout(at(10_000));
    assert_eq!(uploads.len(), 2);
    assert_eq!(uploads.next_deadline(), Some(at(20_000)));
    assert!(matches!(uploads.take(at(11_000), behind), Take::Chunk(_)));
    uploads.handle_timeout(at(20_000));
    assert_eq!(uploads.len(), 1);
}

#[test]
fn time_may_stand_still_run_back_or_end() {
    let (mut uploads, _) = table(Limits {
        idle_after: Duration::from_secs(1),
        ..Limits::default()
    });
    for (upload, now) in [(1, at(5_000)), (2, at(10)), (3, Millis::MAX)] {
        let key = open(&mut uploads, CONN, upload, b"");
        uploads.accept(now, key, Terms::default()).unwrap();
    }
    uploads.handle_timeout(at(5_999));
    assert_eq!(
        uploads.len(),
        3,
        "the second began no earlier than the first"
    );
    uploads.handle_timeout(at(6_000));
    assert_eq!(uploads.len(), 1);
    uploads.handle_timeout(at(u64::MAX - 1));
    assert_eq!(uploads.len(), 1);
}

#[test]
fn timeouts_come_in_bounded_portions() {
    let (mut uploads, _) = table(Limits::default());
    for conn in 0..300 {
        let key = open(&mut uploads, ConnId::from_u64(conn), 1, b"");
        uploads.accept(NOW, key, Terms::default()).unwrap();
    }
    uploads.handle_timeout(Millis::MAX);
    assert_eq!(uploads.len(), 300 - 256);
    assert!(uploads.next_deadline().unwrap() < Millis::MAX);
    uploads.handle_timeout(Millis::MAX);
    assert!(uploads.is_empty());
}

#[test]
fn permission_is_asked_again_after_so_many_bytes_one_check_at_a_time() {
    let (mut uploads, _) = table(Limits::default());
    let terms = Terms {
        reauthorize_every: NonZeroU64::new(10),
        ..Terms::default()
    };
    let key = open(&mut uploads, CONN, 1, b"123456");
    uploads.accept(NOW, key, terms).unwrap();
    uploads.handle_chunk(NOW, CONN, next(1, 1, b"123456789"));
    assert!(events(&mut uploads).is_empty(), "nine since the start");
    uploads.handle_chunk(NOW, CONN, next(1, 2, b"1"));
    assert_eq!(events(&mut uploads), [Event::Reauthorize { key }]);
    uploads.handle_chunk(NOW, CONN, next(1, 3, &[0; 50]));
    assert!(events(&mut uploads).is_empty(), "one check at a time");
    assert!(uploads.reauthorized(key, Ok(())));
    uploads.handle_chunk(NOW, CONN, next(1, 4, b""));
    assert_eq!(
        events(&mut uploads),
        [Event::Reauthorize { key }],
        "fifty came meanwhile"
    );
    assert!(uploads.reauthorized(key, Err(Failure::new("FORBIDDEN", "revoked"))));
    let events = events(&mut uploads);
    assert!(matches!(&events[0], Event::Reply(reply) if reply.result.is_err()));
    assert!(matches!(&events[1], Event::Aborted { failure, .. } if failure.code == "FORBIDDEN"));
}

#[test]
fn an_upload_can_be_continued_where_its_handler_got_to() {
    let (mut uploads, _) = table(Limits::default());
    let header = r#"{"rpc":"files/put","offset":0}"#;
    uploads.handle_chunk(NOW, CONN, first(1, header, b"hello "));
    let Some(Event::Opened { key, header, .. }) = uploads.poll_event() else {
        panic!("opened");
    };
    assert_eq!(header.offset(), Some(0));
    uploads.accept(NOW, key, Terms::default()).unwrap();
    assert!(matches!(uploads.take(NOW, key), Take::Chunk(_)));
    uploads.handle_chunk(NOW, CONN, next(1, 1, b"world"));
    assert_eq!(uploads.progress(key), Some((11, 6)));
    uploads.handle_cancel(CONN, 1);
    let events = events(&mut uploads);
    let Event::Reply(reply) = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(reply.continue_at, Some(6));
    let mut text = Vec::new();
    reply.write(&mut text);
    assert!(text.ends_with(br#","offset":6}}"#));
    let Event::Aborted { taken, .. } = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!(*taken, 6);

    // Somebody who remembers wrongly is told; who remembers rightly goes on.
    let terms = Terms {
        continue_from: 6,
        size_max: 11,
        ..Terms::default()
    };
    for (offset, accepted) in [(11, false), (6, true)] {
        let header = format!(r#"{{"rpc":"files/put","offset":{offset}}}"#);
        uploads.handle_chunk(NOW, CONN, first(2, &header, b"world"));
        let Some(Event::Opened { key, .. }) = uploads.poll_event() else {
            panic!("opened");
        };
        assert_eq!(uploads.accept(NOW, key, terms).is_ok(), accepted);
        match uploads.poll_event() {
            Some(Event::Reply(reply)) => assert_eq!(reply.continue_at, Some(6)),
            other => assert!(accepted, "{other:?}"),
        }
        while uploads.poll_event().is_some() {}
    }
    // The size counts the whole.
    uploads.handle_chunk(NOW, CONN, next(2, 1, b"!"));
    assert_eq!(codes(&mut uploads), ["PAYLOAD_TOO_LARGE"]);
}

#[test]
fn replies_to_clients_that_say_no_offset_have_none() {
    let (mut uploads, _) = table(Limits::default());
    let key = open(&mut uploads, CONN, 1, b"hello");
    uploads.accept(NOW, key, Terms::default()).unwrap();
    uploads.handle_cancel(CONN, 1);
    let Some(Event::Reply(reply)) = uploads.poll_event() else {
        panic!("a reply");
    };
    assert_eq!((reply.continue_at, reply.frame_bytes_max), (None, None));
}

#[test]
fn the_frame_limit_is_announced_once_for_each_connection() {
    let (mut uploads, _) = table(Limits {
        frame_bytes_max: Some(65_536),
        ..Limits::default()
    });
    let mut announced = Vec::new();
    for conn in [CONN, CONN, OTHER] {
        let key = open(&mut uploads, conn, 1, b"");
        uploads.finish(key, Ok(RawJson::NULL));
        let Some(Event::Reply(reply)) = uploads.poll_event() else {
            panic!("a reply");
        };
        announced.push(reply.frame_bytes_max);
    }
    assert_eq!(announced, [Some(65_536), None, Some(65_536)]);
    assert_eq!(uploads.connections(), 2);
    uploads.handle_close(CONN);
    uploads.handle_close(OTHER);
    assert_eq!(uploads.connections(), 0);
}

#[test]
fn careless_callers_and_hostile_numbers_do_no_harm() {
    let (mut uploads, _) = table(Limits::default());
    let key = open(&mut uploads, CONN, u32::MAX, b"");
    uploads.accept(NOW, key, Terms::default()).unwrap();
    // A header where there must be none, and none where there must be one.
    let misplaced = Chunk {
        header: Some(RawJson::NULL),
        ..next(u32::MAX, 1, b"x")
    };
    uploads.handle_chunk(NOW, CONN, misplaced);
    uploads.handle_chunk(NOW, CONN, next(u32::MAX, 0, b"x"));
    uploads.handle_chunk(NOW, CONN, next(5, 7, b"x"));
    uploads.handle_cancel(OTHER, u32::MAX);
    assert_eq!(uploads.stats().dropped, 4);
    assert!(events(&mut uploads).is_empty());
    uploads.handle_chunk(NOW, CONN, next(u32::MAX, u32::MAX, b"x"));
    assert_eq!(codes(&mut uploads), ["INVALID_REQUEST"]);
    // An offset so large that nothing can be added.
    let header = format!(r#"{{"rpc":"a/b","offset":{}}}"#, u64::MAX);
    uploads.handle_chunk(NOW, CONN, first(1, &header, b"xyz"));
    let Some(Event::Opened { key, .. }) = uploads.poll_event() else {
        panic!("opened");
    };
    let terms = Terms {
        continue_from: u64::MAX,
        size_max: u64::MAX,
        reauthorize_every: NonZeroU64::new(1),
        ..Terms::default()
    };
    uploads.accept(NOW, key, terms).unwrap();
    uploads.handle_chunk(NOW, CONN, next(1, 1, b"xyz"));
    assert!(matches!(uploads.take(NOW, key), Take::Chunk(_)));
    assert_eq!(uploads.progress(key), Some((u64::MAX, u64::MAX)));
}

#[test]
fn a_handler_is_woken_once_and_only_when_it_waits() {
    let (mut uploads, _) = table(Limits::default());
    let key = open(&mut uploads, CONN, 1, b"");
    uploads.accept(NOW, key, Terms::default()).unwrap();
    uploads.handle_chunk(NOW, CONN, next(1, 1, b"a"));
    assert!(events(&mut uploads).is_empty(), "nobody waits");
    assert!(matches!(uploads.take(NOW, key), Take::Chunk(_)));
    assert_eq!(uploads.take(NOW, key), Take::Wait);
    uploads.handle_chunk(NOW, CONN, next(1, 2, b""));
    assert!(events(&mut uploads).is_empty(), "nothing to take");
    uploads.handle_chunk(NOW, CONN, next(1, 3, b"b"));
    uploads.handle_chunk(NOW, CONN, next(1, 4, b"c"));
    assert_eq!(events(&mut uploads), [Event::Readable { key }]);
    assert!(matches!(uploads.take(NOW, key), Take::Chunk(_)));
    assert!(matches!(uploads.take(NOW, key), Take::Chunk(_)));
    assert_eq!(uploads.take(NOW, key), Take::Wait);
    let last = Chunk {
        last: true,
        ..next(1, 5, b"")
    };
    uploads.handle_chunk(NOW, CONN, last);
    assert_eq!(events(&mut uploads), [Event::Readable { key }]);
    assert_eq!(uploads.take(NOW, key), Take::End);
    assert_eq!(uploads.take(NOW, key), Take::End);
}
