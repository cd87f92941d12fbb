//! What operations cost in memory, counted by the allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use millstream_core::{ConnId, Millis, RawJson};
use millstream_presence::{
    CursorConfig, Cursors, Data, Effects, Group, GroupConfig, OwnedData, Presence, PresenceConfig,
    Role, Select, Snapshot,
};

/// Takes note of lengths, and keeps the newest snapshots as a host with slow sockets would.
#[derive(Default)]
struct Host {
    bytes: usize,
    effects: usize,
    queued: Vec<Snapshot>,
    keep: usize,
}

impl Effects for Host {
    fn tap(&mut self, _: ConnId, _: &str) {
        self.effects += 1;
    }

    fn untap(&mut self, _: ConnId, _: &str) {
        self.effects += 1;
    }

    fn publish(&mut self, _: &str, _: &str, data: &Data<'_>) {
        self.effects += 1;
        self.bytes += data.parts().map(<[u8]>::len).sum::<usize>();
    }

    fn send(&mut self, _: ConnId, _: &str, _: &str, data: &Data<'_>) {
        self.effects += 1;
        if self.keep == 0 {
            return;
        }
        if let OwnedData::List(list) = data.to_owned() {
            if self.queued.len() == self.keep {
                self.queued.clear();
            }
            self.queued.push(list);
        }
    }
}

fn person(n: u64) -> RawJson {
    RawJson::parse(format!(r#"{{"id":"user-{n:08}","name":"Person"}}"#).into()).unwrap()
}

fn room() -> Presence {
    Presence::new(PresenceConfig {
        select: Select::Identity,
        ..PresenceConfig::default()
    })
}

/// Joins of `people`, in one turn each or all in one turn.
fn fill(presence: &mut Presence, people: &[RawJson], host: &mut Host, one_turn: bool) {
    for (n, user) in people.iter().enumerate() {
        let conn = ConnId::from_u64(n as u64);
        let joined = presence.join(Millis::ZERO, conn, "room", user.get(), host);
        joined.unwrap();
        if !one_turn {
            presence.end_of_turn(host);
        }
    }
    presence.end_of_turn(host);
}

/// Bytes allocated while a room fills, each newcomer being sent everybody.
fn filling(size: u64, one_turn: bool) -> u64 {
    let people: Vec<RawJson> = (0..size).map(person).collect();
    let mut presence = room();
    let mut host = Host {
        keep: 64,
        queued: Vec::with_capacity(64),
        ..Host::default()
    };
    let cost = allocation_counter::measure(|| {
        fill(&mut presence, &people, &mut host, one_turn);
    });
    let last = host.queued.last().unwrap();
    assert_eq!(last.count() as u64, size);
    assert_eq!(last.to_vec().len(), last.len());
    cost.bytes_total
}

#[test]
fn a_big_room_fills_in_linear_work() {
    for one_turn in [false, true] {
        let [small, big] = [1_000, 10_000].map(|size| filling(size, one_turn));
        // All snapshots written out are 250 MB of text for ten thousand people, and a hundred
        // times as much as for a thousand.
        assert!(big < small * 13, "{small} bytes, then {big}");
        assert!(big < 10_000 * 6_000, "{big} bytes for ten thousand");
    }
}

#[test]
fn snapshots_of_one_moment_share_everything() {
    let people: Vec<RawJson> = (0..5_000).map(person).collect();
    let mut presence = room();
    fill(&mut presence, &people, &mut Host::default(), true);
    let cost = allocation_counter::measure(|| {
        let all: [Snapshot; 8] = core::array::from_fn(|_| presence.snapshot("room"));
        assert_eq!(all[7].count(), 5_000);
    });
    assert_eq!(cost.count_total, 0);
}

#[test]
fn coming_and_going_allocates_nothing() {
    let people: Vec<RawJson> = (0..1_000).map(person).collect();
    let mut presence = room();
    let mut host = Host::default();
    fill(&mut presence, &people, &mut host, false);
    let (conn, user) = (ConnId::from_u64(9_999), person(9_999));
    let mut round = || {
        presence
            .join(Millis::ZERO, conn, "room", user.get(), &mut host)
            .unwrap();
        presence.end_of_turn(&mut host);
        presence.handle_close(Millis::ZERO, conn, &mut host);
        presence.end_of_turn(&mut host);
    };
    (0..10).for_each(|_| round());
    let cost = allocation_counter::measure(|| (0..1_000).for_each(|_| round()));
    assert_eq!(cost.count_total, 0);
}

#[test]
fn bytes_per_person_are_as_documented() {
    let size = 100_000;
    let people: Vec<RawJson> = (0..size).map(person).collect();
    let mut presence = room();
    let mut host = Host::default();
    let cost = allocation_counter::measure(|| fill(&mut presence, &people, &mut host, false));
    let text = presence.snapshot("room").len();
    let beside = (cost.bytes_current.unsigned_abs() as usize).saturating_sub(text) / size as usize;
    assert!(beside <= 140, "{beside} bytes per person beside its text");
    let (real, counted) = (
        cost.bytes_current.unsigned_abs() as f64,
        presence.bytes() as f64,
    );
    assert!(
        (0.7..1.3).contains(&(real / counted)),
        "{real} real, {counted} counted"
    );
}

#[test]
fn bytes_per_small_topic_are_as_documented() {
    let mut presence = room();
    let mut host = Host::default();
    let user = person(1);
    let names: Vec<String> = (0..10_000).map(|n| format!("topic-{n:06}")).collect();
    let cost = allocation_counter::measure(|| {
        for name in &names {
            let conn = ConnId::from_u64(1);
            presence
                .join(Millis::ZERO, conn, name, user.get(), &mut host)
                .unwrap();
        }
        presence.end_of_turn(&mut host);
    });
    let each = cost.bytes_current.unsigned_abs() / 10_000;
    assert!(each <= 750, "{each} bytes per topic with one person");
    let counted = presence.bytes() as f64 / 10_000.0;
    assert!(
        (0.6..1.4).contains(&(each as f64 / counted)),
        "{each} real, {counted} counted"
    );
}

fn moves() -> Vec<RawJson> {
    let value = |n| RawJson::parse(format!(r#"{{"x":{},"y":{}}}"#, 100 + n, 300 - n).into());
    (0..100).map(|n| value(n).unwrap()).collect()
}

#[test]
fn moving_allocates_nothing() {
    for (throttle, tick) in [(0, None), (50, None), (50, Some(50))] {
        let mut cursors = Cursors::new(CursorConfig {
            throttle: Duration::from_millis(throttle),
            tick: tick.map(Duration::from_millis),
            ..CursorConfig::default()
        });
        let (user, moves) = (person(1), moves());
        let mut host = Host::default();
        let mut at = 0;
        let mut round = || {
            for (n, data) in moves.iter().enumerate() {
                at += 1;
                let (now, conn) = (Millis::from_millis(at), ConnId::from_u64(n as u64));
                cursors.handle_timeout(now, &mut host);
                let data = Some(data.get());
                cursors
                    .update(now, conn, "canvas", data, user.get(), &mut host)
                    .unwrap();
            }
        };
        (0..3).for_each(|_| round());
        let cost = allocation_counter::measure(|| (0..100).for_each(|_| round()));
        assert_eq!(cost.count_total, 0, "throttle {throttle}, tick {tick:?}");
        assert!(host.effects > 200);
    }
}

#[test]
fn bytes_per_cursor_are_as_documented() {
    let size = 100_000;
    let mut cursors = Cursors::new(CursorConfig::default());
    let (user, moves) = (person(1), moves());
    let mut host = Host::default();
    let cost = allocation_counter::measure(|| {
        for n in 0..size {
            let data = Some(moves[(n % 100) as usize].get());
            let conn = ConnId::from_u64(n);
            cursors
                .update(Millis::ZERO, conn, "canvas", data, user.get(), &mut host)
                .unwrap();
        }
    });
    // One cursor each: a cursor of 96 and a connection of 64 bytes with their tables, the value,
    // the user data.
    let each = cost.bytes_current.unsigned_abs() / size;
    let texts = (user.as_bytes().len() + moves[0].as_bytes().len() + 30) as u64;
    assert!(each <= 160 + texts + 16, "{each} bytes, {texts} of text");
    let (real, counted) = (
        cost.bytes_current.unsigned_abs() as f64,
        cursors.bytes() as f64,
    );
    assert!(
        (0.7..1.3).contains(&(real / counted)),
        "{real} real, {counted} counted"
    );
}

#[test]
fn bytes_per_group_member_are_as_documented() {
    let size = 100_000;
    let mut group = Group::new("g", GroupConfig::default()).unwrap();
    let mut host = Host::default();
    let cost = allocation_counter::measure(|| {
        for n in 0..size {
            group.join(ConnId::from_u64(n), Role::Viewer, &mut host);
        }
    });
    let each = cost.bytes_current.unsigned_abs() / size;
    assert!(each <= 80, "{each} bytes per member");
}

#[test]
fn publishing_to_a_role_copies_nothing() {
    let mut group = Group::new("g", GroupConfig::default()).unwrap();
    let mut host = Host::default();
    for n in 0..1_000 {
        let role = if n % 2 == 0 {
            Role::Admin
        } else {
            Role::Viewer
        };
        group.join(ConnId::from_u64(n), role, &mut host);
    }
    let data = RawJson::parse(vec![b'1'; 10_000].into())
        .unwrap()
        .into_bytes();
    let cost = allocation_counter::measure(|| {
        assert_eq!(
            group.publish_to(Role::Admin, "e", &data, &mut host),
            Ok(500)
        );
    });
    assert_eq!(cost.count_total, 0);
}
