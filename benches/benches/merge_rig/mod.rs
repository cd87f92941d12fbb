//! Lists of 200-byte items, and events for them.

use millstream_core::RawJson;
use millstream_merge::{Event, Limits, Merge, Options, Strategy};

/// What is done to a list, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Update,
    DeleteCreate,
    PrependEvict,
    AppendEvict,
    JoinLeave,
    CursorUpdate,
    LatestPush,
    Set,
    Frame16,
}

pub(crate) const OPS: [Op; 9] = [
    Op::Update,
    Op::DeleteCreate,
    Op::PrependEvict,
    Op::AppendEvict,
    Op::JoinLeave,
    Op::CursorUpdate,
    Op::LatestPush,
    Op::Set,
    Op::Frame16,
];

/// A list of `len` items and what is needed to do something to it.
pub(crate) struct Rig {
    pub(crate) merge: Merge<RawJson>,
    op: Op,
    len: usize,
    next: usize,
    state: u64,
}

impl Rig {
    pub(crate) fn new(op: Op, len: usize) -> Self {
        let strategy = match op {
            Op::JoinLeave => Strategy::Presence,
            Op::CursorUpdate => Strategy::Cursor,
            Op::LatestPush => Strategy::Latest,
            Op::Set => Strategy::Set,
            _ => Strategy::Crud,
        };
        let mut options = Options::new(strategy);
        options.prepend = op == Op::PrependEvict;
        options.max = match op {
            Op::PrependEvict | Op::AppendEvict | Op::LatestPush => len,
            _ => 0,
        };
        let mut merge = Merge::new(options, Limits::NONE);
        if op == Op::Set {
            merge.load(item(op, 0)).expect("no limits");
        } else {
            let rows = (0..len).map(|id| item(op, id)).collect();
            merge.load_rows(rows).expect("no limits");
        }
        Self {
            merge,
            op,
            len,
            next: len,
            state: 1,
        }
    }

    /// The data of the next `count` rounds.
    pub(crate) fn prepare(&mut self, count: usize) -> Vec<RawJson> {
        (0..count).map(|_| item(self.op, self.id())).collect()
    }

    fn id(&mut self) -> usize {
        if matches!(
            self.op,
            Op::PrependEvict | Op::AppendEvict | Op::LatestPush | Op::JoinLeave
        ) {
            self.next += 1;
            return self.next;
        }
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.state >> 33) as usize % self.len
    }

    /// One round per item.
    pub(crate) fn run(&mut self, data: Vec<RawJson>) {
        let merge = &mut self.merge;
        if self.op == Op::Frame16 {
            let mut queue = Vec::with_capacity(16);
            for chunk in data.chunks(16) {
                let event = |data: &RawJson| Event {
                    name: "updated",
                    data: data.clone(),
                };
                queue.extend(chunk.iter().map(event));
                let _ = merge.apply_frame(&mut queue, drop);
            }
            return;
        }
        for data in data {
            let _ = match self.op {
                Op::Update => merge.apply("updated", data),
                Op::DeleteCreate => {
                    let _ = merge.apply("deleted", data.clone());
                    merge.apply("created", data)
                }
                Op::PrependEvict | Op::AppendEvict => merge.apply("created", data),
                Op::JoinLeave => {
                    let _ = merge.apply("join", data.clone());
                    merge.apply("leave", data)
                }
                Op::CursorUpdate => merge.apply("update", data),
                Op::LatestPush => merge.apply("push", data),
                Op::Set | Op::Frame16 => merge.apply("set", data),
            };
        }
    }
}

/// An item of 200 bytes.
fn item(op: Op, id: usize) -> RawJson {
    let field = match op {
        Op::JoinLeave | Op::CursorUpdate => "key",
        _ => "id",
    };
    let mut text = format!(
        r#"{{"{field}":{id},"title":"A row","done":false,"owner":{{"name":"Ada"}},"text":""#
    );
    let filler = 198 - text.len();
    text.extend(core::iter::repeat_n('x', filler));
    text.push_str("\"}");
    assert_eq!(text.len(), 200);
    RawJson::parse(text.into_bytes().into()).expect("it is valid")
}
