//! Groups in the words of the scenarios.

use bytes::Bytes;
use millstream_core::{ConnId, RawJson};
use millstream_presence::{Admission, Effects, Group, GroupConfig, GroupError, Role};
use millstream_vectors::{Engine, is_undefined, number, rule};
use serde_json::{Value, json};

use super::{Conns, Record, argument, injected, raw, without_undefined};

pub(crate) struct GroupRig {
    group: Group,
    conns: Conns,
    callbacks: bool,
    on_join_throws: bool,
}

impl Engine for GroupRig {
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value> {
        let name = options["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| rule("non-empty-string", "name"))?;
        let members_max = members_max(options)?;
        for callback in ["onJoin", "onLeave", "onFull", "onClose"] {
            let value = &options[callback];
            if !(value.is_null() || is_undefined(value)) {
                return Err(rule("must-be-function", callback));
            }
        }
        let meta = options
            .get("meta")
            .filter(|meta| !is_undefined(meta) && !meta.is_null());
        let mut config = GroupConfig {
            members_max,
            ..GroupConfig::default()
        };
        if let Some(meta) = meta {
            config.meta = raw(&without_undefined(meta));
        }
        let group = Group::new(name, config);
        Ok(Self {
            group: group.map_err(|error| json!({"rule": "name", "message": error.to_string()}))?,
            conns: Conns::new(scenario),
            callbacks: options["callbacks"] == true,
            on_join_throws: options["onJoinThrows"] == true,
        })
    }

    fn call(
        &mut self,
        _: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        Ok(match op {
            "count" => Some(json!(self.group.count())),
            "name" => Some(json!(self.group.name())),
            "meta" => Some(parse(self.group.meta())),
            "setMeta" => {
                let meta = argument(args, 0).map_or(Value::Null, without_undefined);
                let done = self.group.set_meta(raw(&meta));
                done.map_err(|error| rule("meta", &error.to_string()))?;
                None
            }
            "members" => {
                let one = |(conn, role): (ConnId, Role)| {
                    let conn = self.conns.name(conn);
                    json!({"conn": conn, "role": role.as_str()})
                };
                Some(self.group.members().map(one).collect())
            }
            "close" => {
                let conns = &self.conns;
                if self.group.close(&mut Record { conns, out }) && self.callbacks {
                    out.push(json!({"via": "callback", "name": "onClose"}));
                }
                None
            }
            "publish" => {
                self.publish(args, out);
                None
            }
            // Recording effects cannot fail.
            "failNextPublish" => None,
            _ => {
                let conn = self.conns.id(&args[0]);
                return self.call_for_conn(conn, op, args, out);
            }
        })
    }
}

impl GroupRig {
    fn call_for_conn(
        &mut self,
        conn: ConnId,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let conns = &self.conns;
        match op {
            "join" => {
                let role = self.role(conn, argument(args, 1))?;
                let admission = self.group.join(conn, role, &mut Record { conns, out });
                self.tell_admission(conn, role, admission, out)?;
                return Ok(Some(json!(admission.is_member())));
            }
            "hookSubscribe" => {
                let topic = args[1].as_str().unwrap_or_default();
                let mut record = Record { conns, out };
                let admission = self.group.handle_subscribe(conn, topic, &mut record);
                if let Some(admission) = admission {
                    self.tell_admission(conn, Role::default(), admission, out)?;
                    return Ok((!admission.is_member()).then_some(Value::Bool(false)));
                }
            }
            "leave" | "hookClose" => {
                let role = self.group.handle_close(conn, &mut Record { conns, out });
                self.tell_leave(conn, role, out);
            }
            "hookUnsubscribe" => {
                let topic = args[1].as_str().unwrap_or_default();
                let mut record = Record { conns, out };
                let role = self.group.handle_unsubscribe(conn, topic, &mut record);
                self.tell_leave(conn, role, out);
            }
            "send" => {
                let (event, data) = event_and_data(&args[1..]);
                let mut record = Record { conns, out };
                let done = self.group.send(conn, &event, &data, &mut record);
                done.map_err(|error| match error {
                    GroupError::NotMember => json!({"rule": "not-a-member"}),
                    other => json!({"rule": "refused", "message": other.to_string()}),
                })?;
            }
            "has" => return Ok(Some(json!(self.group.role(conn).is_some()))),
            "wsSubscribe" => {
                let topic = args[1].as_str().unwrap_or_default();
                Record { conns, out }.tap(conn, topic);
            }
            "setUserData" => self.conns.set_user_data(conn, &args[1]),
            other => panic!("groups have no operation {other}"),
        }
        Ok(None)
    }

    /// The role asked for; an unknown one is looked at only if it matters.
    fn role(&self, conn: ConnId, name: Option<&Value>) -> Result<Role, Value> {
        let Some(name) = name else {
            return Ok(Role::default());
        };
        let role = name.as_str().and_then(Role::parse);
        if role.is_none() && !self.group.is_closed() && self.group.role(conn).is_none() {
            return Err(json!({"rule": "invalid-role", "subject": name}));
        }
        Ok(role.unwrap_or_default())
    }

    fn publish(&mut self, args: &[Value], out: &mut Vec<Value>) {
        let (event, data) = event_and_data(args);
        let conns = &self.conns;
        let mut record = Record { conns, out };
        match argument(args, 2).filter(|role| !role.is_null()) {
            None => self
                .group
                .publish(&event, &data, &mut record)
                .expect("a plain event"),
            Some(role) => {
                // Nobody has a role that does not exist.
                if let Some(role) = role.as_str().and_then(Role::parse) {
                    let sent = self.group.publish_to(role, &event, &data, &mut record);
                    sent.expect("a plain event");
                }
            }
        }
    }

    fn tell_admission(
        &self,
        conn: ConnId,
        role: Role,
        admission: Admission,
        out: &mut Vec<Value>,
    ) -> Result<(), Value> {
        match admission {
            Admission::Joined => {
                self.callback("onJoin", conn, role, out);
                if self.on_join_throws {
                    return Err(injected("onJoin"));
                }
            }
            Admission::Full => self.callback("onFull", conn, role, out),
            _ => {}
        }
        Ok(())
    }

    fn tell_leave(&self, conn: ConnId, role: Option<Role>, out: &mut Vec<Value>) {
        if let Some(role) = role {
            self.callback("onLeave", conn, role, out);
        }
    }

    fn callback(&self, name: &str, conn: ConnId, role: Role, out: &mut Vec<Value>) {
        if self.callbacks {
            let (conn, role) = (self.conns.name(conn), role.as_str());
            out.push(json!({"via": "callback", "name": name, "conn": conn, "role": role}));
        }
    }
}

fn members_max(options: &Value) -> Result<usize, Value> {
    let Some(value) = options
        .get("maxMembers")
        .filter(|value| !is_undefined(value))
    else {
        return Ok(usize::MAX);
    };
    let limit = number(value).filter(|limit| *limit >= 1.0);
    let limit = limit.ok_or_else(|| rule("positive-or-infinity", "maxMembers"))?;
    // The engine counts whole members; a fraction admits one more. The cast saturates.
    Ok(limit.ceil() as usize)
}

fn event_and_data(args: &[Value]) -> (String, Bytes) {
    let event = argument(args, 0)
        .and_then(Value::as_str)
        .unwrap_or_default();
    let data = argument(args, 1).map_or(Value::Null, without_undefined);
    (event.to_owned(), raw(&data).into_bytes())
}

fn parse(json: &RawJson) -> Value {
    serde_json::from_str(json.as_str()).expect("JSON")
}
