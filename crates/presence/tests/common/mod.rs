//! Naive models of the three engines, written from their documentation, and rigs that play
//! operations from bytes against engine and model side by side. Shared by the property tests and
//! the fuzz target.

mod cursors;
mod groups;
mod rosters;

use millstream_presence::Effect;

/// The first byte chooses the engine, the second its settings, the rest are operations.
pub(crate) fn play(bytes: &[u8]) {
    let [engine, mode, operations @ ..] = bytes else {
        return;
    };
    match engine % 3 {
        0 => rosters::play(*mode, operations),
        1 => cursors::play(*mode, operations),
        _ => groups::play(*mode, operations),
    }
}

/// An effect as one line, to be compared and shown.
fn line(effect: &Effect) -> String {
    let text = |data: &millstream_presence::OwnedData| {
        let text = String::from_utf8(data.to_vec()).expect("UTF-8");
        let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text);
        assert!(valid.is_ok(), "not JSON: {text}");
        text
    };
    match effect {
        Effect::Tap { conn, topic } => format!("tap {} {topic}", conn.to_u64()),
        Effect::Untap { conn, topic } => format!("untap {} {topic}", conn.to_u64()),
        Effect::Publish { topic, event, data } => {
            format!("publish {topic} {event} {}", text(data))
        }
        Effect::Send {
            conn,
            topic,
            event,
            data,
        } => format!("send {} {topic} {event} {}", conn.to_u64(), text(data)),
        other => panic!("an effect that is new to the models: {other:?}"),
    }
}

/// Takes all effects, as lines.
fn take(out: &mut Vec<Effect>) -> Vec<String> {
    out.drain(..).map(|effect| line(&effect)).collect()
}
