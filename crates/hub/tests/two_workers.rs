//! Several hubs that share their topics, with every interleaving of publishing and delivering:
//! all subscribers of a topic see the same events in the same order, wherever they live.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(
    clippy::disallowed_methods,
    reason = "one of these tests is about threads"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    BatchMember, Delivery, Hub, HubConfig, Inboxes, Pattern, PolicyTable, PublishError,
    PublishOptions, Publisher, Sink, Topics, Wrote,
};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};
use proptest::prelude::*;

const TOPICS: [&str; 3] = ["a", "b", "c"];
/// The last one keeps nothing.
const RETAINED: [&str; 2] = ["a", "b"];
const RETAIN: usize = 3;
/// Deliveries a worker may owe before publishes to it are refused.
const OWED_MAX: usize = 4;

/// Queues that a test empties when it likes.
struct Queues(RefCell<Vec<VecDeque<Delivery>>>);

impl Queues {
    fn pop(&self, worker: usize) -> Option<Delivery> {
        self.0.borrow_mut()[worker].pop_front()
    }

    fn len(&self, worker: usize) -> usize {
        self.0.borrow()[worker].len()
    }
}

impl Inboxes for Queues {
    fn push(&self, worker: u16, delivery: Delivery) {
        self.0.borrow_mut()[usize::from(worker)].push_back(delivery);
    }

    fn is_empty(&self, worker: u16) -> bool {
        self.len(usize::from(worker)) == 0
    }

    fn is_full(&self, worker: u16) -> bool {
        self.len(usize::from(worker)) >= OWED_MAX
    }
}

#[derive(Default)]
struct Wires(HashMap<Key, Vec<u8>>);

impl Sink for Wires {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        self.0.entry(conn).or_default().extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
    }
}

struct Reader {
    worker: usize,
    key: Key,
    /// Per topic ever held: what it had to see while it held it.
    due: BTreeMap<&'static str, Vec<String>>,
    /// Topics it holds, and whether their events are held back.
    holds: BTreeMap<&'static str, bool>,
}

struct Cluster {
    topics: Arc<Topics>,
    queues: Queues,
    hubs: Vec<(Hub, Wires)>,
    readers: Vec<Reader>,
    heads: BTreeMap<&'static str, u64>,
    /// Numbered events since the beginning, by topic.
    past: BTreeMap<&'static str, Vec<String>>,
    counter: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// `None` publishes from outside of all workers.
    Batch {
        from: Option<usize>,
        members: Vec<(usize, Option<u8>)>,
    },
    Deliver {
        worker: usize,
    },
    Flush {
        worker: usize,
    },
    /// `behind` is how many events the reader says it has missed; with `hold` they wait.
    Join {
        reader: usize,
        topic: usize,
        behind: Option<u8>,
        hold: bool,
    },
    Leave {
        reader: usize,
        topic: usize,
    },
    Release {
        reader: usize,
        topic: usize,
    },
    Publish {
        from: Option<usize>,
        topic: usize,
        numbered: bool,
    },
}

impl Cluster {
    fn new(workers: usize) -> Self {
        let count = u16::try_from(workers).expect("works");
        let topics = Arc::new(Topics::new(
            count,
            1,
            1_000,
            RETAINED
                .iter()
                .fold(PolicyTable::default(), |table, topic| {
                    table.retaining(Pattern::new(topic), u32::try_from(RETAIN).expect("works"))
                }),
            Arc::default(),
        ));
        let config = Arc::new(HubConfig::default());
        let mut hubs = Vec::new();
        let mut readers = Vec::new();
        for worker in 0..workers {
            let number = u16::try_from(worker).expect("works");
            let mut hub = Hub::new(number, Arc::clone(&config), Arc::clone(&topics));
            for nth in 0..3 {
                let key = hub.open(None, Millis::ZERO).expect("works");
                if nth == 2 {
                    let hello = r#"{"type":"hello","caps":["batch"]}"#;
                    let _ = hub.receive(key, hello);
                }
                readers.push(Reader {
                    worker,
                    key,
                    due: BTreeMap::new(),
                    holds: BTreeMap::new(),
                });
            }
            hubs.push((hub, Wires::default()));
        }
        let queues = Queues(RefCell::new(vec![VecDeque::new(); workers]));
        let heads = TOPICS
            .map(|topic| {
                topics.open(topic, Millis::ZERO).expect("works");
                (topic, topics.head(topic).expect("works"))
            })
            .into();
        Self {
            topics,
            queues,
            hubs,
            readers,
            heads,
            past: BTreeMap::new(),
            counter: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Batch { from, members } => self.publish_batched(*from, members),
            Step::Deliver { worker } => {
                let worker = worker % self.hubs.len();
                if let Some(delivery) = self.queues.pop(worker) {
                    self.hubs[worker].0.deliver(&delivery);
                }
            }
            Step::Flush { worker } => {
                let worker = worker % self.hubs.len();
                let (hub, wires) = &mut self.hubs[worker];
                hub.flush(wires);
            }
            Step::Join {
                reader,
                topic,
                behind,
                hold,
            } => self.join(*reader, TOPICS[topic % TOPICS.len()], *behind, *hold),
            Step::Leave { reader, topic } => self.leave(*reader, TOPICS[topic % TOPICS.len()]),
            Step::Release { reader, topic } => self.release(*reader, TOPICS[topic % TOPICS.len()]),
            Step::Publish {
                from,
                topic,
                numbered,
            } => {
                self.publish(*from, TOPICS[topic % TOPICS.len()], *numbered);
            }
        }
    }

    /// Joins whatever is on its way to that worker: nothing of it is for the newcomer.
    fn join(&mut self, reader: usize, topic: &'static str, behind: Option<u8>, hold: bool) {
        let at = reader % self.readers.len();
        let head = self.heads[topic];
        let reader = &mut self.readers[at];
        if reader.holds.contains_key(topic) {
            return;
        }
        let hub = &mut self.hubs[reader.worker].0;
        let due = reader.due.entry(topic).or_default();
        if let Some(behind) = behind.map(usize::from) {
            let position = head - behind as u64;
            let seen = format!(r#""lastSeenSeqs":{{"{topic}":{position}}}"#);
            let resume = format!(r#"{{"type":"resume","sessionId":"s",{seen}}}"#);
            let _ = hub.receive(reader.key, &resume);
            let past = self.past.entry(topic).or_default();
            let kept = if RETAINED.contains(&topic) { RETAIN } else { 0 };
            if behind <= kept.min(past.len()) {
                due.extend(past[past.len() - behind..].iter().cloned());
            } else {
                due.push(gap_mark(topic));
            }
        }
        assert!(hub.subscribe_unchecked(reader.key, topic));
        reader.holds.insert(topic, hold);
        assert!(!hold || hub.hold(reader.key, topic, 1));
    }

    /// Leaves when everything that was published before has come, so that it is clear what is due.
    fn leave(&mut self, reader: usize, topic: &'static str) {
        let at = reader % self.readers.len();
        self.drain(self.readers[at].worker);
        self.release(reader, topic);
        let reader = &mut self.readers[at];
        let held = reader.holds.remove(topic).is_some();
        let hub = &mut self.hubs[reader.worker].0;
        assert_eq!(hub.unsubscribe(reader.key, topic), held);
    }

    fn release(&mut self, reader: usize, topic: &'static str) {
        let at = reader % self.readers.len();
        let reader = &mut self.readers[at];
        let waited = reader.holds.get_mut(topic).is_some_and(std::mem::take);
        let hub = &mut self.hubs[reader.worker].0;
        let released = hub.release(reader.key, topic, 1);
        assert_eq!(released.is_some(), waited);
        assert!(released.is_none_or(|released| released.dropped == 0));
    }

    fn drain(&mut self, worker: usize) {
        while let Some(delivery) = self.queues.pop(worker) {
            self.hubs[worker].0.deliver(&delivery);
        }
    }

    /// Whether a worker that would get it owes too much.
    fn is_busy(&self, topics: &[&str]) -> bool {
        self.readers.iter().any(|reader| {
            topics.iter().any(|topic| reader.holds.contains_key(topic))
                && self
                    .queues
                    .is_full(u16::try_from(reader.worker).expect("works"))
        })
    }

    fn expect(&mut self, topic: &'static str, data: &str, seq: Option<u64>) {
        if let Some(seq) = seq {
            let head = self.heads.get_mut(topic).expect("works");
            *head += 1;
            assert_eq!(seq, *head, "without holes, from whatever thread");
        }
        let seq = seq.map_or_else(String::new, |seq| format!(",\"seq\":{seq}"));
        let text = format!(r#"{{"topic":"{topic}","event":"e","data":{data}{seq}}}"#);
        if !seq.is_empty() {
            self.past.entry(topic).or_default().push(text.clone());
        }
        for reader in &mut self.readers {
            if reader.holds.contains_key(topic) {
                reader.due.entry(topic).or_default().push(text.clone());
            }
        }
    }

    fn publish(&mut self, from: Option<usize>, topic: &'static str, numbered: bool) {
        self.counter += 1;
        let data = self.counter.to_string();
        let json = RawJsonRef::parse(data.as_bytes()).expect("works");
        let busy = self.is_busy(&[topic]);
        let from = from.map(|from| from % self.hubs.len());
        let publisher = Publisher {
            topics: &self.topics,
            inboxes: &self.queues,
            now: Millis::ZERO,
        };
        let hub = from.map(|from| &mut self.hubs[from].0);
        let options = PublishOptions {
            numbered,
            ..PublishOptions::default()
        };
        let result = publisher.publish(hub, topic, "e", json, options);
        match result {
            Err(error) => {
                assert_eq!(error, PublishError::Busy);
                assert!(busy);
                assert_eq!(
                    self.topics.head(topic),
                    Some(self.heads[topic]),
                    "not numbered"
                );
            }
            Ok(published) => {
                assert!(!busy);
                assert_eq!(published.delivered, self.topics.subscribers(topic) > 0);
                self.expect(topic, &data, published.seq);
                if published.queued {
                    self.drain(from.expect("only workers have an inbox"));
                }
            }
        }
    }

    fn publish_batched(&mut self, from: Option<usize>, picked: &[(usize, Option<u8>)]) {
        let drafts: Vec<(&'static str, Option<String>, String)> = picked
            .iter()
            .map(|(topic, key)| {
                self.counter += 1;
                let key = key.map(|key| key.to_string());
                (TOPICS[topic % TOPICS.len()], key, self.counter.to_string())
            })
            .collect();
        let members: Vec<BatchMember<'_>> = drafts
            .iter()
            .map(|(topic, key, data)| BatchMember {
                topic,
                event: "e",
                data: RawJsonRef::parse(data.as_bytes()).expect("works"),
                coalesce_key: key.as_deref(),
                numbered: true,
            })
            .collect();
        let named: Vec<&str> = drafts.iter().map(|(topic, ..)| *topic).collect();
        let busy = self.is_busy(&named);
        let from = from.map(|from| from % self.hubs.len());
        let publisher = Publisher {
            topics: &self.topics,
            inboxes: &self.queues,
            now: Millis::ZERO,
        };
        let hub = from.map(|from| &mut self.hubs[from].0);
        match publisher.publish_batched(hub, &members, 100) {
            Err(error) => {
                assert_eq!(error, PublishError::Busy);
                assert!(busy);
                for (topic, head) in &self.heads {
                    assert_eq!(self.topics.head(topic), Some(*head), "none was numbered");
                }
            }
            Ok(results) => {
                assert!(!busy);
                for ((topic, key, data), result) in drafts.iter().zip(&results) {
                    assert!(key.is_some() || result.seq.is_some());
                    if result.seq.is_some() {
                        self.expect(topic, data, result.seq);
                    }
                }
                if results.iter().any(|result| result.queued) {
                    self.drain(from.expect("only workers have an inbox"));
                }
            }
        }
    }

    fn finish(mut self) {
        for (reader, topic) in (0..self.readers.len()).flat_map(|r| TOPICS.map(|t| (r, t))) {
            self.release(reader, topic);
        }
        for worker in 0..self.hubs.len() {
            self.drain(worker);
            let (hub, wires) = &mut self.hubs[worker];
            hub.flush(wires);
        }
        for reader in &self.readers {
            let received = self.hubs[reader.worker]
                .1
                .0
                .remove(&reader.key)
                .unwrap_or_default();
            let frames = decode(received);
            let mut total = 0;
            for (topic, due) in &reader.due {
                let prefix = format!(r#"{{"topic":"{topic}","#);
                let got: Vec<&String> = frames
                    .iter()
                    .filter(|frame| frame.starts_with(&prefix))
                    .collect();
                assert!(
                    got.iter().copied().eq(due),
                    "{topic}: {got:#?} instead of {due:#?}"
                );
                total += got.len();
            }
            assert_eq!(total, frames.len(), "and nothing else");
        }
    }
}

fn gap_mark(topic: &str) -> String {
    format!(r#"{{"topic":"{topic}","event":"end","data":{{"reqId":0,"truncated":true}}}}"#)
}

fn decode(mut bytes: Vec<u8>) -> Vec<String> {
    let mut decoder = Decoder::new(Role::Client);
    let limits = DecodeLimits {
        message_bytes_max: 1 << 24,
        ..DecodeLimits::default()
    };
    let mut input = Input::new(&mut bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next(&mut input, &limits).expect("works") {
        let Frame::Text(text) = frame else {
            panic!("{frame:?}")
        };
        match text.strip_prefix(r#"{"type":"batch","events":"#) {
            Some(events) => {
                let events =
                    RawJsonRef::parse(&events.as_bytes()[..events.len() - 1]).expect("works");
                frames.extend(events.elements().map(|event| event.as_str().to_owned()));
            }
            None => frames.push(text.to_owned()),
        }
    }
    frames
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let from = || proptest::option::of(0..3_usize);
    let member = (0..3_usize, proptest::option::of(0..2_u8));
    let step = prop_oneof![
        4 => (from(), 0..3_usize, any::<bool>())
            .prop_map(|(from, topic, numbered)| Step::Publish { from, topic, numbered }),
        2 => (from(), proptest::collection::vec(member, 1..5))
            .prop_map(|(from, members)| Step::Batch { from, members }),
        3 => (0..3_usize).prop_map(|worker| Step::Deliver { worker }),
        1 => (0..3_usize).prop_map(|worker| Step::Flush { worker }),
        4 => (0..9_usize, 0..3_usize, proptest::option::of(0..5_u8), any::<bool>())
            .prop_map(|(reader, topic, behind, hold)| Step::Join { reader, topic, behind, hold }),
        1 => (0..9_usize, 0..3_usize).prop_map(|(reader, topic)| Step::Leave { reader, topic }),
        1 => (0..9_usize, 0..3_usize).prop_map(|(reader, topic)| Step::Release { reader, topic }),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn all_subscribers_on_all_workers_see_the_same(workers in 2..4_usize, steps in steps()) {
        let mut cluster = Cluster::new(workers);
        for step in &steps {
            cluster.step(step);
        }
        cluster.finish();
    }
}

/// The order of a topic holds with real threads as well.
#[test]
fn numbers_of_many_threads_have_no_holes() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2_000;

    struct Log(std::sync::Mutex<Vec<Delivery>>);

    impl Inboxes for Log {
        fn push(&self, _: u16, delivery: Delivery) {
            self.0.lock().expect("works").push(delivery);
        }

        fn is_empty(&self, _: u16) -> bool {
            false
        }

        fn is_full(&self, _: u16) -> bool {
            false
        }
    }

    let topics = Arc::new(Topics::new(
        1,
        1,
        100,
        PolicyTable::default(),
        Arc::default(),
    ));
    let mut hub = Hub::new(0, Arc::default(), Arc::clone(&topics));
    let key = hub.open(None, Millis::ZERO).expect("works");
    assert!(hub.subscribe_unchecked(key, "a"));
    let first = topics.head("a").expect("works");
    let log = Log(std::sync::Mutex::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let publisher = Publisher {
                    topics: &topics,
                    inboxes: &log,
                    now: Millis::ZERO,
                };
                let data = RawJsonRef::parse(b"1").expect("works");
                for _ in 0..EACH {
                    publisher
                        .publish(None, "a", "e", data, PublishOptions::default())
                        .expect("works");
                }
            });
        }
    });
    for delivery in log.0.into_inner().expect("works") {
        hub.deliver(&delivery);
    }
    let mut wires = Wires::default();
    hub.flush(&mut wires);
    let frames = decode(wires.0.remove(&key).expect("works"));
    let due = (1..=THREADS * EACH).map(|n| {
        format!(
            r#"{{"topic":"a","event":"e","data":1,"seq":{}}}"#,
            first + n
        )
    });
    assert!(frames.into_iter().eq(due));
}
