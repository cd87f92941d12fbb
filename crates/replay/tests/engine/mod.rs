//! The engine behind the words of the scenarios, with the original's policy: a topic that is
//! evicted starts again, and only a gap is called truncated. Used by the vector test and by the
//! driver.

use bytes::Bytes;
use millstream_core::RawJsonRef;
use millstream_replay::{
    Limits, Numbers, Outcome, Read, Replay, RingLimits, encode_record, write_end, write_msg,
};
use millstream_vectors::{Engine, is_undefined, number, positive_integer, rule};
use serde_json::{Map, Value, json};

/// Replay as the original's plug-in shows it, and the host around it.
pub struct Plugin {
    replay: Replay,
    publish_returns: Value,
    failing_publishes: u64,
}

impl Engine for Plugin {
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value> {
        let size = positive_integer(options, "size")?.unwrap_or(1_000);
        let topics = positive_integer(options, "maxTopics")?.unwrap_or(100);
        let limits = Limits {
            topics_max: usize::try_from(topics).unwrap_or(usize::MAX),
            ring: RingLimits {
                entries_max: u32::try_from(size).unwrap_or(u32::MAX),
                bytes_max: usize::MAX,
            },
            entries_max: usize::MAX,
            bytes_max: usize::MAX,
            name_bytes_max: usize::MAX,
            numbers: Numbers::Restart,
            reads_count_as_use: true,
            ..Limits::default()
        };
        let returns = &scenario["env"]["publishReturns"];
        Ok(Self {
            replay: Replay::new(limits, 0),
            publish_returns: if returns.is_null() {
                json!(true)
            } else {
                returns.clone()
            },
            failing_publishes: 0,
        })
    }

    fn call(
        &mut self,
        _: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let arg = |index: usize| args.get(index).unwrap_or(&Value::Null);
        let topic = arg(0).as_str().unwrap_or_default();
        match op {
            // The payload is encoded at once: what the caller does with it later is not seen.
            "publish" | "publishThenMutate" => {
                let (event, data) = (arg(1).as_str().unwrap_or_default(), args.get(2));
                self.publish(topic, event, data, out).map(Some)
            }
            "publishMany" => {
                let event = arg(1).as_str().unwrap_or_default();
                let (from, to) = (arg(2).as_i64().unwrap_or(0), arg(3).as_i64().unwrap_or(-1));
                let mut count = 0;
                for n in from..=to {
                    self.publish(topic, event, Some(&json!({ "n": n })), &mut Vec::new())?;
                    count += 1;
                }
                Ok(Some(json!(count)))
            }
            "publishTopics" => {
                let (from, to) = (arg(1).as_i64().unwrap_or(0), arg(2).as_i64().unwrap_or(0));
                let mut count = 0;
                for n in from..to {
                    let topic = format!("{topic}{n}");
                    self.publish(&topic, "x", Some(&json!(1)), &mut Vec::new())?;
                    count += 1;
                }
                Ok(Some(json!(count)))
            }
            "seq" => Ok(Some(json!(self.replay.head(topic)))),
            "since" => Ok(Some(self.since(topic, arg(1)))),
            "replay" => {
                let (connection, topic) = (topic, arg(1).as_str().unwrap_or_default());
                self.replay(connection, topic, arg(2), args.get(3), out);
                Ok(None)
            }
            "clear" => {
                self.replay.clear();
                Ok(None)
            }
            "clearTopic" => {
                self.replay.clear_topic(topic);
                Ok(None)
            }
            "failNextPublish" => {
                self.failing_publishes = arg(0).as_u64().unwrap_or(0);
                Ok(None)
            }
            "setUserData" | "wsSubscribe" => Ok(None),
            other => Err(rule("unknown-operation", other)),
        }
    }
}

impl Plugin {
    /// Numbers and keeps, then delivers: a delivery that fails leaves the record.
    fn publish(
        &mut self,
        topic: &str,
        event: &str,
        data: Option<&Value>,
        out: &mut Vec<Value>,
    ) -> Result<Value, Value> {
        let data = data.and_then(resolve);
        let number = self.replay.head(topic) + 1;
        let text = data.as_ref().unwrap_or(&Value::Null).to_string();
        let raw = RawJsonRef::parse_str(&text).expect("JSON");
        let mut record = encode_record(number, event, raw);
        if data.is_none() {
            // What the original does with `undefined`: there is no such member.
            record.truncate(record.len() - ",\"data\":null".len());
        }
        let pushed = self.replay.push(topic, record).expect("numbers are left");
        assert_eq!(pushed.number, number);
        if self.failing_publishes > 0 {
            self.failing_publishes -= 1;
            return Err(json!({"rule": "injected", "subject": "publish"}));
        }
        out.push(json!({"via": "publish", "topic": topic, "event": event, "data": data}));
        Ok(self.publish_returns.clone())
    }

    fn since(&mut self, topic: &str, position: &Value) -> Value {
        let mut records = Vec::new();
        if let Some(position) = integer(position) {
            let (_, frames) = self.after(topic, position);
            records.extend(frames.iter().map(|record| {
                let mut record: Value = parse(&[b"{", record.as_ref(), b"}"].concat());
                record["topic"] = json!(topic);
                record
            }));
        }
        Value::Array(records)
    }

    /// What is kept after a position, and whether that begins behind a gap.
    fn after(&mut self, topic: &str, position: u64) -> (bool, Vec<Bytes>) {
        let answer = self.replay.since(topic, position);
        let mut frames = Vec::new();
        if let Some(mut cursor) = answer.cursor {
            loop {
                match self.replay.read(&mut cursor) {
                    Read::Frame { frame, .. } => frames.push(frame.clone()),
                    Read::Gap { .. } => {}
                    _ => break,
                }
            }
        }
        (matches!(answer.outcome, Outcome::Gap { .. }), frames)
    }

    fn replay(
        &mut self,
        connection: &str,
        topic: &str,
        position: &Value,
        request_id: Option<&Value>,
        out: &mut Vec<Value>,
    ) {
        let request_id = request_id.and_then(resolve).map(|id| id.to_string());
        let request_id = request_id
            .as_ref()
            .map(|id| RawJsonRef::parse_str(id).expect("JSON"));
        let mut send = |frame: &[u8]| {
            let mut effect: Value = parse(frame);
            effect["via"] = json!("send");
            effect["to"] = json!(connection);
            out.push(effect);
        };
        let position = integer(position);
        let (gap, records) = position.map_or((false, Vec::new()), |n| self.after(topic, n));
        for record in records {
            let mut frame = Vec::new();
            write_msg(&mut frame, topic, request_id, &record);
            send(&frame);
        }
        let mut frame = Vec::new();
        write_end(&mut frame, topic, request_id, gap);
        send(&frame);
    }
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("what the engine writes is JSON")
}

/// A JavaScript number that is an integer and not negative.
fn integer(value: &Value) -> Option<u64> {
    let number = number(value).filter(|n| n.is_finite() && *n >= 0.0 && n.fract() == 0.0)?;
    Some(value.as_u64().unwrap_or(number as u64))
}

/// What is left of a value in JSON: members that have none go, and elements become null.
fn resolve(value: &Value) -> Option<Value> {
    if is_undefined(value) || value.get("$fn").is_some() {
        return None;
    }
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| resolve(item).unwrap_or_default());
            Some(Value::Array(items.collect()))
        }
        Value::Object(members) if members.contains_key("$num") => {
            let number = number(value).filter(|n| n.is_finite());
            Some(number.map_or(Value::Null, |n| json!(n)))
        }
        Value::Object(members) => {
            let kept = members
                .iter()
                .filter_map(|(name, member)| Some((name.clone(), resolve(member)?)));
            Some(Value::Object(kept.collect::<Map<_, _>>()))
        }
        other => Some(other.clone()),
    }
}
