//! Rosters in the words of the scenarios.

use core::time::Duration;

use millstream_core::{ConnId, JsonKind, Millis};
use millstream_presence::{Effects, JoinError, Joined, Presence, PresenceConfig, Select};
use millstream_vectors::{Batch, Engine, number, positive_integer, rule};
use serde_json::{Value, json};

use super::{Conns, Record, Selection, UNDEFINED, argument, raw};

pub(crate) struct PresenceRig {
    presence: Presence,
    selection: Selection,
    conns: Conns,
}

impl Engine for PresenceRig {
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value> {
        let limit = |name| {
            let value = positive_integer(options, name)?;
            let value = value.map_or(1_000_000, |n| usize::try_from(n).unwrap_or(usize::MAX));
            Ok::<usize, Value>(value)
        };
        let (connections_max, topics_max) = (limit("maxConnections")?, limit("maxTopics")?);
        let selection = Selection::new(options).unwrap_or(Selection::Default);
        let heartbeat = number(&options["heartbeat"])
            .filter(|ms| *ms > 0.0)
            // Timers have whole milliseconds, at least one.
            .and_then(|ms| Duration::try_from_secs_f64(ms.floor().max(1.0) / 1000.0).ok());
        let config = PresenceConfig {
            key: options["key"].as_str().unwrap_or("id").to_owned(),
            select: selection.of_engine(Select::Public),
            heartbeat,
            connections_max,
            topics_max,
            ..PresenceConfig::default()
        };
        Ok(Self {
            presence: Presence::new(config),
            selection,
            conns: Conns::new(scenario),
        })
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let now = Millis::from_millis(at);
        match op {
            "list" => {
                let list = self.presence.list(text(args, 0));
                let parse = |text| serde_json::from_str::<Value>(text).expect("a record");
                let records = list.map(|(_, record)| parse(record.as_str()));
                return Ok(Some(records.collect()));
            }
            "count" => return Ok(Some(json!(self.presence.count(text(args, 0))))),
            "clear" => self.presence.clear(),
            "flush" => self.presence.end_of_turn(&mut record(&self.conns, out)),
            // Recording effects cannot fail.
            "failNextPublish" => {}
            _ => return self.call_for_conn(now, op, args, out).map(|()| None),
        }
        Ok(None)
    }

    fn end_of_turn(&mut self, _: u64, out: &mut Vec<Value>) -> Result<(), Value> {
        self.presence.end_of_turn(&mut record(&self.conns, out));
        Ok(())
    }

    fn next_deadline(&self) -> Option<u64> {
        self.presence.next_deadline().map(Millis::as_millis)
    }

    fn on_deadline(&mut self, at: u64) -> Vec<Batch> {
        let mut batch = Batch::default();
        while self.next_deadline().is_some_and(|due| due <= at) {
            let mut out = record(&self.conns, &mut batch.frames);
            self.presence
                .handle_timeout(Millis::from_millis(at), &mut out);
        }
        vec![batch]
    }
}

impl PresenceRig {
    fn call_for_conn(
        &mut self,
        now: Millis,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<(), Value> {
        let conn = self.conns.id(&args[0]);
        let topic = argument(args, 1)
            .and_then(Value::as_str)
            .unwrap_or_default();
        match op {
            "join" => return self.join(now, conn, topic, out),
            "hookSubscribe" if !topic.starts_with("__presence:") => {
                return self.join(now, conn, topic, out);
            }
            "hookSubscribe" => {
                let user = raw(&self.conns.user_data(conn));
                let mut out = record(&self.conns, out);
                let done = self
                    .presence
                    .handle_subscribe(now, conn, topic, user.get(), &mut out);
                done.expect("watching is not refused");
            }
            "leave" | "hookClose" => {
                self.presence
                    .handle_close(now, conn, &mut record(&self.conns, out));
            }
            "sync" => self
                .presence
                .sync(now, conn, topic, &mut record(&self.conns, out)),
            "hookUnsubscribe" => {
                self.presence
                    .handle_unsubscribe(conn, topic, &mut record(&self.conns, out));
            }
            "setUserData" => self.conns.set_user_data(conn, &args[1]),
            "wsSubscribe" => record(&self.conns, out).tap(conn, topic),
            other => panic!("presence has no operation {other}"),
        }
        Ok(())
    }

    fn join(
        &mut self,
        now: Millis,
        conn: ConnId,
        topic: &str,
        out: &mut Vec<Value>,
    ) -> Result<(), Value> {
        // The selection is the application's: it is asked when the engine would go on.
        self.presence.start_heartbeat(now);
        let mut user = json!({});
        if self.presence.check(conn, topic) == Ok(Joined::New) {
            user = self.selection.user(self.conns.user_data(conn))?;
        }
        if user == UNDEFINED {
            return Err(not_an_object("undefined"));
        }
        let mut out = record(&self.conns, out);
        let done = self
            .presence
            .join(now, conn, topic, raw(&user).get(), &mut out);
        done.map(drop).map_err(|error| match error {
            JoinError::NotAnObject { .. } => not_an_object(kind(raw(&user).get().kind())),
            JoinError::Connections { .. } => rule("connection-cap", "maxConnections"),
            JoinError::Topics { .. } => rule("topic-cap", "maxTopics"),
            other => json!({"rule": "refused", "message": other.to_string()}),
        })
    }
}

fn record<'a>(conns: &'a Conns, out: &'a mut Vec<Value>) -> Record<'a> {
    Record { conns, out }
}

fn text(args: &[Value], at: usize) -> &str {
    argument(args, at)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn not_an_object(got: &str) -> Value {
    json!({"rule": "plain-object", "subject": "select", "got": got, "type": "TypeError"})
}

fn kind(kind: JsonKind) -> &'static str {
    match kind {
        JsonKind::Null => "null",
        JsonKind::Bool => "boolean",
        JsonKind::Number => "number",
        JsonKind::String => "string",
        JsonKind::Array | JsonKind::Object => "object",
    }
}
