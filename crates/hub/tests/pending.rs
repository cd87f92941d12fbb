//! Subscribes and unsubscribes that wait in line, at the limit of the line.

use millstream_core::Millis;
use millstream_hub::{Event, Hub, HubConfig, Limits, Pattern, Receipt, Verdict};

#[test]
fn an_unsubscribe_that_finds_no_room_still_follows_its_subscribe() {
    let limits = Limits {
        pending_topics_max: 1,
        ..Limits::default()
    };
    let open_topics = vec![Pattern::new("*")];
    let mut hub = Hub::single(HubConfig {
        limits,
        open_topics,
        ..HubConfig::default()
    });
    let conn = hub.open(None, Millis::ZERO).unwrap();
    for text in [
        r#"{"type":"subscribe","topic":"a","ref":1}"#,
        r#"{"type":"unsubscribe","topic":"a"}"#,
        r#"{"type":"unsubscribe","topic":"b"}"#,
    ] {
        assert_eq!(hub.receive(conn, text), Receipt::Control);
    }
    let Some(Event::Ask { ticket, .. }) = hub.poll_event() else {
        panic!("a question")
    };
    // Nothing waits for this topic, so its unsubscribe is not held up.
    let left = |event: Option<Event>, name: &str| match event {
        Some(Event::Unsubscribed { topic, .. }) => &*topic == name,
        _ => false,
    };
    assert!(left(hub.poll_event(), "b"));
    hub.settle(ticket, [Verdict::Allow]);
    assert!(left(hub.poll_event(), "a"));
    assert!(!hub.holds(conn, "a"), "the client left last");
}

#[test]
fn resuming_over_and_over_keeps_one_timer() {
    let mut hub = Hub::single(HubConfig::default());
    let conn = hub.open(None, Millis::ZERO).unwrap();
    let resume = r#"{"type":"resume","sessionId":"s","lastSeenSeqs":{"a":1}}"#;
    for _ in 0..1_000 {
        assert_eq!(hub.receive(conn, resume), Receipt::Control);
    }
    assert!(hub.next_deadline().is_some());
    hub.close(conn);
    assert_eq!(hub.next_deadline(), None, "nothing is left of it");
}
