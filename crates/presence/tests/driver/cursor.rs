//! Cursors in the words of the scenarios.

use core::time::Duration;

use millstream_core::{ConnId, Millis};
use millstream_presence::{CursorConfig, CursorError, CursorMessage, Cursors, Effects, Select};
use millstream_vectors::{Batch, Engine, number, positive_integer, rule};
use serde_json::{Value, json};

use super::{Conns, Record, Selection, argument, drop_undefined, raw, without_undefined};

pub(crate) struct CursorRig {
    cursors: Cursors,
    selection: Selection,
    conns: Conns,
    /// Taps the host has given, as connection and topic.
    taps: Vec<(ConnId, String)>,
}

impl Engine for CursorRig {
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value> {
        let throttle = match options.get("throttle") {
            Some(value) if !millstream_vectors::is_undefined(value) => number(value)
                .filter(|ms| *ms >= 0.0)
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok())
                .ok_or_else(|| rule("non-negative-finite", "throttle"))?,
            _ => Duration::from_millis(50),
        };
        let selection =
            Selection::new(options).ok_or_else(|| rule("must-be-function", "select"))?;
        let limit = |name, default| {
            let value = positive_integer(options, name)?;
            let value = value.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX));
            Ok::<usize, Value>(value)
        };
        let config = CursorConfig {
            throttle,
            select: selection.of_engine(Select::Identity),
            connections_max: limit("maxConnections", 1_000_000)?,
            topics_max: limit("maxTopics", 1_000_000)?,
            topic_units_max: limit("maxTopicLength", 256)?,
            data_bytes_max: limit("maxDataBytes", 8192)?,
            ..CursorConfig::default()
        };
        Ok(Self {
            cursors: Cursors::new(config),
            selection,
            conns: Conns::new(scenario),
            taps: Vec::new(),
        })
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        match op {
            "list" => return Ok(Some(self.list(&args[0]))),
            "clear" => self.cursors.clear(),
            // Recording effects cannot fail.
            "failNextPublish" => {}
            _ => {
                let conn = self.conns.id(&args[0]);
                return self.call_for_conn(Millis::from_millis(at), conn, op, args, out);
            }
        }
        Ok(None)
    }

    fn next_deadline(&self) -> Option<u64> {
        self.cursors.next_deadline().map(Millis::as_millis)
    }

    fn on_deadline(&mut self, at: u64) -> Vec<Batch> {
        let mut frames = Vec::new();
        let conns = &self.conns;
        let mut out = Record {
            conns,
            out: &mut frames,
        };
        self.cursors
            .handle_timeout(Millis::from_millis(at), &mut out);
        // In the original every waiting value has a timer of its own.
        let batch = |frame| Batch {
            frames: vec![frame],
            error: None,
        };
        frames.into_iter().map(batch).collect()
    }
}

impl CursorRig {
    fn call_for_conn(
        &mut self,
        now: Millis,
        conn: ConnId,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        match op {
            "update" => {
                let Some(topic) = argument(args, 1).and_then(Value::as_str) else {
                    return Ok(None);
                };
                let data = argument(args, 2).map(without_undefined);
                self.update(now, conn, topic, data.as_ref().map(raw).as_ref(), out)?;
            }
            "hookMessage" => return self.message(now, conn, &args[1], out),
            "remove" | "hookClose" => {
                let conns = &self.conns;
                self.cursors.handle_close(conn, &mut Record { conns, out });
            }
            "snapshot" => {
                let topic = args[1].as_str().unwrap_or_default();
                let conns = &self.conns;
                self.cursors
                    .snapshot(conn, topic, &mut Record { conns, out });
            }
            "setUserData" => self.conns.set_user_data(conn, &args[1]),
            "wsSubscribe" => {
                let topic = args[1].as_str().unwrap_or_default();
                self.taps.push((conn, topic.to_owned()));
                let conns = &self.conns;
                Record { conns, out }.tap(conn, topic);
            }
            other => panic!("cursors have no operation {other}"),
        }
        Ok(None)
    }

    fn update(
        &mut self,
        now: Millis,
        conn: ConnId,
        topic: &str,
        data: Option<&millstream_core::RawJson>,
        out: &mut Vec<Value>,
    ) -> Result<(), Value> {
        let data = data.map(|data| data.get());
        // The selection is the application's: it is asked when the engine would go on.
        let mut user = json!({});
        if self.cursors.would_take(topic, data) && !self.cursors.is_known(conn) {
            user = self.selection.user(self.conns.user_data(conn))?;
        }
        let conns = &self.conns;
        let mut out = Record { conns, out };
        let done = self
            .cursors
            .update(now, conn, topic, data, raw(&user).get(), &mut out);
        done.map(drop).map_err(|error| match error {
            CursorError::Connections { .. } => rule("connection-cap", "maxConnections"),
            CursorError::Topics { .. } => rule("topic-cap", "maxTopics"),
            other => json!({"rule": "refused", "message": other.to_string()}),
        })
    }

    fn message(
        &mut self,
        now: Millis,
        conn: ConnId,
        message: &Value,
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let text = match message {
            Value::String(text) => text.clone(),
            Value::Array(bytes) => {
                let bytes = bytes.iter().filter_map(Value::as_u64);
                let bytes: Vec<u8> = bytes.filter_map(|byte| u8::try_from(byte).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => return Ok(None),
        };
        let Some(message) = CursorMessage::parse(&text) else {
            return Ok(None);
        };
        let handled = Ok(Some(Value::Bool(true)));
        if !self.may(conn, message.topic()) {
            return handled;
        }
        match message {
            CursorMessage::Update { topic, data } => {
                let data = data.map(|data| data.to_owned());
                match self.update(now, conn, &topic, data.as_ref(), out) {
                    // Whoever meets a limit by message is not told.
                    Err(error) if error["rule"] == "injected" => return Err(error),
                    _ => {}
                }
            }
            CursorMessage::Snapshot { topic } => {
                let conns = &self.conns;
                self.cursors
                    .snapshot(conn, &topic, &mut Record { conns, out });
            }
            other => panic!("a message that is new to the driver: {other:?}"),
        }
        handled
    }

    /// Whether the connection is tapped, or the host cannot tell.
    fn may(&self, conn: ConnId, topic: &str) -> bool {
        let tap = format!("__cursor:{topic}");
        let from_start = self
            .conns
            .about(conn, "subscribed")
            .and_then(Value::as_array);
        self.conns.says(conn, "noIsSubscribed")
            || from_start.is_some_and(|topics| topics.contains(&Value::from(tap.as_str())))
            || self.taps.contains(&(conn, tap))
    }

    fn list(&self, topic: &Value) -> Value {
        let list = self.cursors.list(topic.as_str().unwrap_or_default());
        let mut list: Value = list
            .map(|one| serde_json::from_slice::<Value>(&one).expect("an object"))
            .collect();
        drop_undefined(&mut list);
        list
    }
}
