//! A group as a plain list.

use millstream_core::{ConnId, RawJson};
use millstream_presence::{Admission, Effect, Group, GroupConfig, GroupError, Role};
use serde_json::Value;

use super::take;

const ROLES: [Role; 3] = [Role::Member, Role::Admin, Role::Viewer];

struct Rig {
    group: Group,
    room: usize,
    /// In order of joining.
    members: Vec<(u64, Role)>,
    is_closed: bool,
    expected: Vec<String>,
    out: Vec<Effect>,
}

pub(super) fn play(mode: u8, operations: &[u8]) {
    let room = if mode & 1 == 1 { 3 } else { 1_000 };
    let config = GroupConfig {
        members_max: room,
        ..GroupConfig::default()
    };
    let mut rig = Rig {
        group: Group::new("g", config).unwrap(),
        room,
        members: Vec::new(),
        is_closed: false,
        expected: Vec::new(),
        out: Vec::new(),
    };
    let mut kept = Vec::new();
    for (at, operation) in operations.chunks_exact(2).enumerate() {
        rig.step(operation[0], u64::from(operation[1]));
        rig.compare();
        if at % 100 == 0 {
            kept.push((rig.group.snapshot(), rig.list()));
        }
    }
    for (snapshot, list) in kept {
        assert_eq!(snapshot.to_vec(), list.as_bytes());
    }
}

impl Rig {
    fn step(&mut self, op: u8, who: u64) {
        let conn = ConnId::from_u64(who);
        let role = ROLES[usize::from(op >> 4) % 3];
        let data = RawJson::parse("[1]".into()).unwrap().into_bytes();
        match op % 16 {
            0..=5 => {
                let admission = self.group.join(conn, role, &mut self.out);
                assert_eq!(admission, self.join(who, role));
            }
            6 => {
                let topic = if op & 16 == 0 {
                    "__group:g"
                } else {
                    "__group:h"
                };
                let admission = self.group.handle_subscribe(conn, topic, &mut self.out);
                let expected = (op & 16 == 0).then(|| self.join(who, Role::Member));
                assert_eq!(admission, expected);
            }
            7..=10 => {
                let left = self.group.handle_close(conn, &mut self.out);
                assert_eq!(left, self.leave(who));
            }
            11 | 12 => {
                let sent = self.group.publish_to(role, "e", &data, &mut self.out);
                let having = self.members.iter().filter(|(_, r)| *r == role);
                let lines = having.map(|(conn, _)| format!("send {conn} __group:g e [1]"));
                self.expected.extend(lines);
                assert_eq!(sent, Ok(self.expected.len()));
            }
            13 => {
                self.group.publish("e", &data, &mut self.out).unwrap();
                if !self.is_closed {
                    self.expected.push("publish __group:g e [1]".into());
                }
            }
            14 => {
                let done = self.group.send(conn, "e", &data, &mut self.out);
                if self.members.iter().any(|(c, _)| *c == who) {
                    assert_eq!(done, Ok(()));
                    self.expected.push(format!("send {who} __group:g e [1]"));
                } else {
                    assert_eq!(done, Err(GroupError::NotMember));
                }
            }
            _ if who == 77 => {
                assert_eq!(self.group.close(&mut self.out), !self.is_closed);
                if !std::mem::replace(&mut self.is_closed, true) {
                    self.expected.push("publish __group:g close null".into());
                    let untaps = self.members.drain(..);
                    let untaps = untaps.map(|(conn, _)| format!("untap {conn} __group:g"));
                    self.expected.extend(untaps);
                }
            }
            _ => assert!(self.group.publish("a\"b", &data, &mut self.out).is_err()),
        }
    }

    fn join(&mut self, who: u64, role: Role) -> Admission {
        if self.is_closed {
            return Admission::Closed;
        }
        if self.members.iter().any(|(c, _)| *c == who) {
            return Admission::Already;
        }
        if self.members.len() >= self.room {
            return Admission::Full;
        }
        self.members.push((who, role));
        self.announce("join", role);
        self.expected.push(format!("tap {who} __group:g"));
        let list = self.list();
        self.expected
            .push(format!("send {who} __group:g members {list}"));
        Admission::Joined
    }

    fn leave(&mut self, who: u64) -> Option<Role> {
        let at = self.members.iter().position(|(c, _)| *c == who)?;
        let (_, role) = self.members.remove(at);
        self.expected.push(format!("untap {who} __group:g"));
        self.announce("leave", role);
        Some(role)
    }

    fn announce(&mut self, event: &str, role: Role) {
        let count = self.members.len();
        let data = format!("{{\"role\":\"{role}\",\"count\":{count}}}");
        self.expected
            .push(format!("publish __group:g {event} {data}"));
    }

    fn list(&self) -> String {
        let roles = self
            .members
            .iter()
            .map(|(_, role)| format!("{{\"role\":\"{role}\"}}"));
        format!("[{}]", roles.collect::<Vec<_>>().join(","))
    }

    fn compare(&mut self) {
        assert_eq!(take(&mut self.out), std::mem::take(&mut self.expected));
        assert!(self.group.members().eq(self.members.iter().map(as_member)));
        assert_eq!(self.group.count(), self.members.len());
        let snapshot: Value = serde_json::from_slice(&self.group.snapshot().to_vec()).unwrap();
        assert_eq!(snapshot.as_array().unwrap().len(), self.members.len());
    }
}

fn as_member(member: &(u64, Role)) -> (ConnId, Role) {
    (ConnId::from_u64(member.0), member.1)
}
