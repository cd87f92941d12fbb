//! Rooms, canvases and groups of a given size, and a host that builds every frame.

use core::time::Duration;

use millstream_core::{ConnId, Millis, RawJson};
use millstream_presence::{
    CursorConfig, Cursors, Data, Effects, Group, GroupConfig, Presence, PresenceConfig, Role,
    Select, Snapshot,
};

/// Builds frames as a server would: published ones whole, snapshots by reference or whole.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) frames: Vec<u8>,
    /// Snapshots that sockets have not taken yet.
    pub(crate) queued: Vec<Snapshot>,
    pub(crate) keep: usize,
    pub(crate) flatten: bool,
}

impl Host {
    fn frame(&mut self, topic: &str, event: &str) {
        if self.frames.len() > 1 << 16 {
            self.frames.clear();
        }
        self.frames.extend_from_slice(br#"{"topic":""#);
        self.frames.extend_from_slice(topic.as_bytes());
        self.frames.extend_from_slice(br#"","event":""#);
        self.frames.extend_from_slice(event.as_bytes());
        self.frames.extend_from_slice(br#"","data":"#);
    }

    fn data(&mut self, data: &Data<'_>) {
        for part in data.parts() {
            self.frames.extend_from_slice(part);
        }
        self.frames.push(b'}');
    }
}

impl Effects for Host {
    fn tap(&mut self, _: ConnId, _: &str) {}

    fn untap(&mut self, _: ConnId, _: &str) {}

    fn publish(&mut self, topic: &str, event: &str, data: &Data<'_>) {
        self.frame(topic, event);
        self.data(data);
    }

    fn send(&mut self, _: ConnId, topic: &str, event: &str, data: &Data<'_>) {
        self.frame(topic, event);
        match data.to_owned() {
            millstream_presence::OwnedData::List(list) if !self.flatten => {
                if self.queued.len() >= self.keep {
                    self.queued.clear();
                }
                if self.keep > 0 {
                    self.queued.push(list);
                }
            }
            _ => self.data(data),
        }
    }
}

/// A roster of people with some 60 bytes each.
pub(crate) struct Room {
    presence: Presence,
    users: Vec<RawJson>,
    host: Host,
    at: u64,
    size: u64,
}

impl Room {
    pub(crate) fn new(size: u64) -> Self {
        let config = PresenceConfig {
            select: Select::Pick(vec!["id".into(), "name".into()]),
            members_max: 4_000_000,
            connections_max: 4_000_000,
            ..PresenceConfig::default()
        };
        let mut room = Self {
            presence: Presence::new(config),
            users: (0..64).map(|n| user(size + n)).collect(),
            host: Host::default(),
            at: 0,
            size,
        };
        for n in 0..size {
            let conn = ConnId::from_u64(n);
            let user = user(n);
            let joined = room
                .presence
                .join(Millis::ZERO, conn, "room", user.get(), &mut room.host);
            joined.expect("room for all");
            if n % 100 == 99 {
                room.presence.end_of_turn(&mut room.host);
            }
        }
        room.presence.end_of_turn(&mut room.host);
        room
    }

    /// A host whose sockets hold the last `keep` snapshots.
    pub(crate) fn keeping(mut self, keep: usize) -> Self {
        self.host.keep = keep;
        self
    }

    /// A host that copies snapshots into frames.
    pub(crate) fn flattening(mut self) -> Self {
        self.host.flatten = true;
        self
    }

    /// Somebody new joins, then leaves, each in a turn of its own.
    pub(crate) fn join_and_leave(&mut self) {
        let n = self.at % 64;
        self.at += 1;
        let conn = ConnId::from_u64(self.size + n);
        self.join(conn, n as usize);
        self.presence
            .handle_close(Millis::ZERO, conn, &mut self.host);
        self.presence.end_of_turn(&mut self.host);
    }

    /// Somebody from anywhere in the roster leaves and comes back at its end.
    pub(crate) fn leave_and_return(&mut self) {
        self.at += 1;
        let n = self.at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.size;
        let conn = ConnId::from_u64(n);
        self.presence
            .handle_close(Millis::ZERO, conn, &mut self.host);
        self.presence.end_of_turn(&mut self.host);
        let user = user(n);
        let joined = self
            .presence
            .join(Millis::ZERO, conn, "room", user.get(), &mut self.host);
        joined.expect("room again");
        self.presence.end_of_turn(&mut self.host);
    }

    fn join(&mut self, conn: ConnId, user: usize) {
        let user = self.users[user].get();
        let joined = self
            .presence
            .join(Millis::ZERO, conn, "room", user, &mut self.host);
        joined.expect("room for one more");
        self.presence.end_of_turn(&mut self.host);
    }
}

fn user(n: u64) -> RawJson {
    let text = format!(r#"{{"id":"user-{n}","name":"Person {n}","token":"hidden"}}"#);
    RawJson::parse(text.into()).expect("JSON")
}

/// A canvas on which everybody has a cursor.
pub(crate) struct Canvas {
    cursors: Cursors,
    user: RawJson,
    values: Vec<RawJson>,
    host: Host,
    at: u64,
    size: u64,
    now: u64,
}

impl Canvas {
    pub(crate) fn new(size: u64, throttle_ms: u64) -> Self {
        let config = CursorConfig {
            throttle: Duration::from_millis(throttle_ms),
            connections_max: 4_000_000,
            ..CursorConfig::default()
        };
        let value = |n| format!(r#"{{"x":{},"y":{}}}"#, 100 + n, 2 * n);
        let value = |n| RawJson::parse(value(n).into()).expect("JSON");
        let mut canvas = Self {
            cursors: Cursors::new(config),
            user: RawJson::parse(r#"{"id":"7","name":"Ann"}"#.into()).expect("JSON"),
            values: (0..64).map(value).collect(),
            host: Host::default(),
            at: 0,
            size,
            now: 0,
        };
        for _ in 0..size {
            canvas.update();
        }
        canvas
    }

    /// The next connection moves.
    pub(crate) fn update(&mut self) {
        let conn = ConnId::from_u64(self.at % self.size);
        let data = self.values[(self.at % 64) as usize].get();
        self.at += 1;
        // A thousand updates in a millisecond.
        self.now += u64::from(self.at.is_multiple_of(1_000));
        let now = Millis::from_millis(self.now);
        if self.cursors.next_deadline().is_some_and(|due| due <= now) {
            self.cursors.handle_timeout(now, &mut self.host);
        }
        let user = self.user.get();
        let done = self
            .cursors
            .update(now, conn, "canvas", Some(data), user, &mut self.host);
        done.expect("room for all");
    }
}

/// A group of plain members.
pub(crate) struct Crowd {
    group: Group,
    host: Host,
    size: u64,
}

impl Crowd {
    pub(crate) fn new(size: u64) -> Self {
        let config = GroupConfig {
            members_max: 4_000_000,
            ..GroupConfig::default()
        };
        let mut crowd = Self {
            group: Group::new("crowd", config).expect("a name"),
            host: Host::default(),
            size,
        };
        for n in 0..size {
            crowd
                .group
                .join(ConnId::from_u64(n), Role::Member, &mut crowd.host);
        }
        crowd
    }

    /// Somebody new joins, then leaves.
    pub(crate) fn join_and_leave(&mut self) {
        let conn = ConnId::from_u64(self.size);
        self.group.join(conn, Role::Viewer, &mut self.host);
        self.group.leave(conn, &mut self.host);
    }
}
