//! What is encoded comes back, however the bytes are split and the messages fragmented.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use millstream_core::{RawJsonRef, TopicName, TopicRules};
use millstream_wire::{
    self as wire, ClientFrame, DecodeLimits, Decoder, Event, Input, Opcode, Role, ServerFrame,
    TopicPrefix, client, frame,
};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<&Event<'_>> for Message {
    fn from(event: &Event<'_>) -> Self {
        match *event {
            Event::Text(text) => Self::Text(text.into()),
            Event::Binary(payload) => Self::Binary(payload.into()),
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close { code, reason } => Self::Close(code.map(|code| (code, reason.into()))),
        }
    }
}

impl Message {
    fn parts(&self) -> (Opcode, Vec<u8>) {
        match self {
            Self::Text(text) => (Opcode::Text, text.clone().into()),
            Self::Binary(payload) => (Opcode::Binary, payload.clone()),
            Self::Ping(payload) => (Opcode::Ping, payload.clone()),
            Self::Pong(payload) => (Opcode::Pong, payload.clone()),
            Self::Close(None) => (Opcode::Close, Vec::new()),
            Self::Close(Some((code, reason))) => (
                Opcode::Close,
                [&code.to_be_bytes(), reason.as_bytes()].concat(),
            ),
        }
    }
}

fn data() -> impl Strategy<Value = Message> {
    prop_oneof![
        ".{0,40}".prop_map(Message::Text),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Message::Binary),
        (0..70_000_usize).prop_map(|len| Message::Text("é".repeat(len / 2))),
    ]
}

fn control() -> impl Strategy<Value = Message> {
    let payload = || proptest::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        payload().prop_map(Message::Ping),
        payload().prop_map(Message::Pong)
    ]
}

fn close() -> impl Strategy<Value = Message> {
    proptest::option::of((3000..5000_u16, "[a-zé]{0,40}")).prop_map(Message::Close)
}

/// A message, where to cut it into fragments, and a control frame to put between them.
type Sent = (Message, Vec<prop::sample::Index>, Option<Message>);

fn write_frame(out: &mut Vec<u8>, opcode: Opcode, fin: bool, payload: &[u8], key: Option<[u8; 4]>) {
    frame::encode_header(out, opcode, fin, payload.len(), key);
    let start = out.len();
    out.extend_from_slice(payload);
    frame::mask(&mut out[start..], key.unwrap_or_default(), 0);
}

fn write(out: &mut Vec<u8>, want: &mut Vec<Message>, sent: &Sent, key: Option<[u8; 4]>) {
    let (message, cuts, between) = sent;
    let (opcode, payload) = message.parts();
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(payload.len() + 1))
        .collect();
    cuts.sort_unstable();
    let (mut from, mut opcode) = (0, opcode);
    for cut in cuts {
        write_frame(out, opcode, false, &payload[from..cut], key);
        (from, opcode) = (cut, Opcode::Continuation);
        if let Some(between) = between {
            let (opcode, payload) = between.parts();
            write_frame(out, opcode, true, &payload, key);
            want.push(between.clone());
        }
    }
    write_frame(out, opcode, true, &payload[from..], key);
    want.push(message.clone());
}

fn decode(bytes: &[u8], cuts: &[usize], role: Role) -> Vec<Message> {
    let limits = DecodeLimits {
        message_bytes_max: 1 << 20,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new(role);
    let mut got = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[from..cut].to_vec();
        from = cut;
        let mut input = Input::new(&mut piece);
        while let Some(event) = decoder.next(&mut input, &limits).unwrap() {
            got.push(Message::from(&event));
        }
    }
    assert_eq!(decoder.buffered_bytes(), 0);
    got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 300 }))]

    #[test]
    fn streams_in_any_pieces(
        sent in proptest::collection::vec(
            (data(), proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
             proptest::option::of(control())),
            0..8,
        ),
        last in proptest::option::of(close()),
        key in proptest::option::of(any::<[u8; 4]>()),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (mut bytes, mut want) = (Vec::new(), Vec::new());
        for message in &sent {
            write(&mut bytes, &mut want, message, key);
        }
        if let Some(last) = last {
            write(&mut bytes, &mut want, &(last, Vec::new(), None), key);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let role = if key.is_some() { Role::Server } else { Role::Client };
        prop_assert_eq!(decode(&bytes, &cuts, role), want);
    }

    #[test]
    fn envelopes_are_read_back(
        topic in "[ !#-\\[\\]-~é😀]{1,60}",
        event in ".{0,20}",
        number in any::<i64>(),
        seq in proptest::option::of(any::<u64>()),
        count in 0..4_usize,
    ) {
        let name = TopicName::parse(&topic, &TopicRules::SERVER).unwrap();
        let (prefix, payload) = (TopicPrefix::new(&name), format!("[{number}]"));
        let data = RawJsonRef::parse_str(&payload).unwrap();
        let mut member = Vec::new();
        wire::write_envelope_json(&mut member, &prefix, &event, data, seq);
        let mut bytes = Vec::new();
        wire::encode_envelope(&mut bytes, &prefix, &event, data, seq);
        wire::encode_batch(&mut bytes, core::iter::repeat_n(member.as_slice(), count));
        let got = decode(&bytes, &[], Role::Client);
        let texts: Vec<&str> = got.iter().map(|message| match message {
            Message::Text(text) => text.as_str(),
            other => panic!("{other:?}"),
        }).collect();
        let check = |data: wire::Data<'_>| {
            assert!(data.topic.as_json_str().unwrap().eq_str(&topic));
            assert!(data.event.as_json_str().unwrap().eq_str(&event));
            assert_eq!(data.data.unwrap().as_str(), payload);
            assert_eq!(data.seq.map(|seq| seq.as_u64().unwrap()), seq);
        };
        match wire::recognise_server(texts[0]) {
            Some(ServerFrame::Data(data)) => check(data),
            other => panic!("{other:?}"),
        }
        match wire::recognise_server(texts[1]) {
            Some(ServerFrame::Batch(members)) => {
                let members: Vec<_> = members.collect();
                prop_assert_eq!(members.len(), count);
                members.into_iter().for_each(check);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn control_frames_are_read_back(
        topics in proptest::collection::vec(".{0,30}", 0..20),
        reference in proptest::option::of(any::<u64>()),
        mask in any::<[u8; 4]>(),
    ) {
        let mut bytes = Vec::new();
        let names = topics.iter().map(String::as_str);
        client::encode_subscribe_batch(&mut bytes, mask, names, reference);
        let got = decode(&bytes, &[], Role::Server);
        let [Message::Text(text)] = got.as_slice() else { panic!("{got:?}") };
        match wire::recognise(text) {
            Some(ClientFrame::SubscribeBatch { topics: list, reference: to }) => {
                let got: Vec<_> = list.elements()
                    .map(|topic| topic.as_json_str().unwrap().to_cow().into_owned()).collect();
                prop_assert_eq!(got, topics);
                prop_assert_eq!(to.and_then(|to| to.as_u64_exact()), reference);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A message that arrives byte by byte is not copied again for each byte.
#[test]
fn large_messages_in_tiny_pieces_take_linear_time() {
    let mut bytes = Vec::new();
    client::encode_text(&mut bytes, [1, 2, 3, 4], &"é".repeat(500_000));
    let limits = DecodeLimits {
        message_bytes_max: 1 << 20,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new(Role::Server);
    let mut texts = 0;
    for byte in &mut bytes {
        let mut input = Input::new(core::slice::from_mut(byte));
        while let Some(event) = decoder.next(&mut input, &limits).unwrap() {
            assert!(matches!(event, Event::Text(text) if text.len() == 1_000_000));
            texts += 1;
        }
    }
    assert_eq!((texts, decoder.buffered_bytes()), (1, 0));
}
