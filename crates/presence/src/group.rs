//! Broadcast groups: a named set of connections with roles.

use core::fmt;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{ConnId, RawJson, TopicError};

use core::hash::BuildHasher;

use crate::pool::{Ends, Links, NIL, Pool};
use crate::rope::{Place, Rope};
use crate::{Data, Effects, Snapshot};

/// What the tap topic of a group begins with.
const TAP: &str = "__group:";

/// What a member may be. What it may do is up to the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// The default.
    #[default]
    Member,
    /// An admin.
    Admin,
    /// A viewer.
    Viewer,
}

impl Role {
    const ALL: [Self; 3] = [Self::Member, Self::Admin, Self::Viewer];

    /// The role of that name, if it is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Its name in frames.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }

    /// A member of this role in the list of members.
    const fn listed(self) -> &'static [u8] {
        match self {
            Self::Member => br#",{"role":"member"}"#,
            Self::Admin => br#",{"role":"admin"}"#,
            Self::Viewer => br#",{"role":"viewer"}"#,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Settings of a [`Group`].
///
/// Worst case memory: `members_max` times 80 bytes, and the metadata.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Members at a time. Default 1,000,000. At the limit [`Group::join`] gives
    /// [`Admission::Full`]. Counter: `full`.
    pub members_max: usize,
    /// What the application wants to remember about the group. Default `{}`.
    pub meta: RawJson,
    /// Bytes of the metadata. Default 64 KiB; more is refused with [`GroupError::Meta`].
    pub meta_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            members_max: 1_000_000,
            meta: RawJson::parse(Bytes::from_static(b"{}")).unwrap_or(RawJson::NULL),
            meta_bytes_max: 64 * 1024,
        }
    }
}

/// Counters since construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Members taken in.
    pub joins: u64,
    /// Members that left; not those a closing group let go.
    pub leaves: u64,
    /// Joins refused because the group was full.
    pub full: u64,
    /// Events published to all.
    pub published: u64,
    /// Events sent to single members, also those published to a role.
    pub sent: u64,
}

/// What became of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// The connection is a member now.
    Joined,
    /// It was one already and keeps its role; nothing happened.
    Already,
    /// The group has as many members as it may; nothing happened.
    Full,
    /// The group is closed; nothing happened.
    Closed,
}

impl Admission {
    /// Whether the connection is a member.
    #[must_use]
    pub const fn is_member(self) -> bool {
        matches!(self, Self::Joined | Self::Already)
    }
}

/// A mistake of the caller. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The group's name is empty, has more than 256 UTF-16 code units, or holds characters that no
    /// frame can carry.
    #[error("group name: {0}")]
    Name(TopicError),
    /// The event's name holds characters that no frame can carry.
    #[error("event: {0}")]
    Event(TopicError),
    /// A group must have room for a member.
    #[error("a group for no members")]
    NoRoom,
    /// The connection is not a member.
    #[error("not a member")]
    NotMember,
    /// The metadata is too long.
    #[error("metadata of {len} bytes, limit {limit}")]
    Meta {
        /// Its length.
        len: usize,
        /// `meta_bytes_max`.
        limit: usize,
    },
}

#[derive(Debug)]
struct Member {
    conn: ConnId,
    links: Links,
    in_role: Links,
    place: Place,
    role: Role,
}

const fn links(member: &mut Member) -> &mut Links {
    &mut member.links
}

const fn role_links(member: &mut Member) -> &mut Links {
    &mut member.in_role
}

/// A named set of connections with roles.
///
/// # Calling contract
/// Call [`handle_close`](Self::handle_close) for every connection that ended. What the application
/// wants to do on a join or leave it does after the method has returned and its effects are
/// performed.
///
/// # Frames
/// All on `__group:<name>`, besides what the application publishes there:
///
/// | event | to | data |
/// |---|---|---|
/// | `join` | members before the newcomer | `{"role": role, "count": with the newcomer}` |
/// | `members` | the newcomer | `[{"role": role}, ...]` in order of joining, itself last |
/// | `leave` | those who stay | `{"role": role, "count": who stay}` |
/// | `close` | all | `null` |
///
/// Events of the application share the names: do not publish a `join` of your own.
///
/// # Cost
/// Join and leave O(1); publishing to a role O(members of that role), without encoding anything
/// anew. The list of members is shared with the newcomer, see [`Snapshot`]. Memory per member 80
/// bytes.
///
/// # Example
/// ```
/// use millstream_core::ConnId;
/// use millstream_presence::{Admission, Effect, Group, GroupConfig, Role};
///
/// let mut group = Group::new("lobby", GroupConfig { members_max: 2, ..Default::default() })?;
/// let mut out = Vec::<Effect>::new();
/// let conn = ConnId::from_u64;
/// assert_eq!(group.join(conn(1), Role::Admin, &mut out), Admission::Joined);
/// assert_eq!(group.join(conn(2), Role::Member, &mut out), Admission::Joined);
/// assert_eq!(group.join(conn(3), Role::Member, &mut out), Admission::Full);
/// let Some(Effect::Send { data, .. }) = out.last() else { panic!() };
/// assert_eq!(data.to_vec(), br#"[{"role":"admin"},{"role":"member"}]"#);
/// # Ok::<(), millstream_presence::GroupError>(())
/// ```
#[derive(Debug)]
pub struct Group {
    config: GroupConfig,
    tap: Box<str>,
    members: Pool<Member>,
    by_conn: HashTable<u32>,
    hasher: DefaultHashBuilder,
    order: Ends,
    /// One list per role, in order of joining.
    roles: [Ends; 3],
    rope: Rope,
    /// The first member that has not been moved, while the rope moves its texts.
    moving: Option<u32>,
    is_closed: bool,
    stats: GroupStats,
}

impl Group {
    /// A group without members.
    ///
    /// # Errors
    /// [`GroupError::Name`], [`GroupError::NoRoom`], [`GroupError::Meta`].
    pub fn new(name: &str, config: GroupConfig) -> Result<Self, GroupError> {
        millstream_core::TopicRules::SERVER
            .check(name)
            .map_err(GroupError::Name)?;
        if config.members_max == 0 {
            return Err(GroupError::NoRoom);
        }
        check_meta(&config.meta, config.meta_bytes_max)?;
        Ok(Self {
            config,
            tap: [TAP, name].concat().into(),
            members: Pool::new(),
            by_conn: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            order: Ends::EMPTY,
            roles: [Ends::EMPTY; 3],
            rope: Rope::new(*b"[]"),
            moving: None,
            is_closed: false,
            stats: GroupStats::default(),
        })
    }

    /// Takes a connection in.
    ///
    /// Effects, when it is new: publish `join`, then tap (so the newcomer does not see it), then
    /// send `members`.
    pub fn join(&mut self, conn: ConnId, role: Role, out: &mut impl Effects) -> Admission {
        if self.is_closed {
            return Admission::Closed;
        }
        if self.find(conn).is_some() {
            return Admission::Already;
        }
        if self.members.len() >= self.config.members_max {
            self.stats.full += 1;
            return Admission::Full;
        }
        self.stats.joins += 1;
        self.add(conn, role);
        self.announce("join", role, out);
        out.tap(conn, &self.tap);
        let members = self.rope.snapshot();
        out.send(conn, &self.tap, "members", &Data::of_snapshot(&members));
        drop(members);
        self.tidy();
        Admission::Joined
    }

    /// Lets a connection go. Gives its role if it was a member.
    ///
    /// Effects: untap, then publish `leave`.
    pub fn leave(&mut self, conn: ConnId, out: &mut impl Effects) -> Option<Role> {
        let at = self.find(conn)?;
        let role = self.remove(at);
        self.stats.leaves += 1;
        out.untap(conn, &self.tap);
        self.announce("leave", role, out);
        self.tidy();
        Some(role)
    }

    /// A connection ended: it leaves.
    pub fn handle_close(&mut self, conn: ConnId, out: &mut impl Effects) -> Option<Role> {
        self.leave(conn, out)
    }

    /// A client asks for a topic: the group's tap topic is a [`join`](Self::join) with the default
    /// role, others are none of ours (`None`).
    pub fn handle_subscribe(
        &mut self,
        conn: ConnId,
        topic: &str,
        out: &mut impl Effects,
    ) -> Option<Admission> {
        (topic == &*self.tap).then(|| self.join(conn, Role::default(), out))
    }

    /// A client gave a topic back: the group's tap topic is a [`leave`](Self::leave).
    pub fn handle_unsubscribe(
        &mut self,
        conn: ConnId,
        topic: &str,
        out: &mut impl Effects,
    ) -> Option<Role> {
        if topic == &*self.tap {
            self.leave(conn, out)
        } else {
            None
        }
    }

    /// An event for all members: one publish, even if there are none. A closed group is silent.
    ///
    /// # Errors
    /// [`GroupError::Event`].
    pub fn publish(
        &mut self,
        event: &str,
        data: &Bytes,
        out: &mut impl Effects,
    ) -> Result<(), GroupError> {
        millstream_core::check_event(event).map_err(GroupError::Event)?;
        if !self.is_closed {
            self.stats.published += 1;
            out.publish(&self.tap, event, &Data::shared(data));
        }
        Ok(())
    }

    /// An event for the members of one role: one send each, in order of joining, of the same
    /// bytes. Gives how many.
    ///
    /// # Errors
    /// [`GroupError::Event`].
    pub fn publish_to(
        &mut self,
        role: Role,
        event: &str,
        data: &Bytes,
        out: &mut impl Effects,
    ) -> Result<usize, GroupError> {
        millstream_core::check_event(event).map_err(GroupError::Event)?;
        let mut at = self.roles[role as usize].head;
        let mut count = 0;
        while let Some(member) = self.members.get(at) {
            out.send(member.conn, &self.tap, event, &Data::shared(data));
            at = member.in_role.next;
            count += 1;
        }
        self.stats.sent += count as u64;
        Ok(count)
    }

    /// An event for one member.
    ///
    /// # Errors
    /// [`GroupError::NotMember`], also after a close; [`GroupError::Event`].
    pub fn send(
        &mut self,
        conn: ConnId,
        event: &str,
        data: &Bytes,
        out: &mut impl Effects,
    ) -> Result<(), GroupError> {
        if self.find(conn).is_none() {
            return Err(GroupError::NotMember);
        }
        millstream_core::check_event(event).map_err(GroupError::Event)?;
        self.stats.sent += 1;
        out.send(conn, &self.tap, event, &Data::shared(data));
        Ok(())
    }

    /// Ends the group for good: publish `close`, then untap everybody in order of joining. Gives
    /// `false` when it was closed already.
    ///
    /// # Cost
    /// Linear in the members.
    pub fn close(&mut self, out: &mut impl Effects) -> bool {
        if self.is_closed {
            return false;
        }
        self.is_closed = true;
        out.publish(&self.tap, "close", &Data::pieces(&[b"null"]));
        let mut at = self.order.head;
        while let Some(member) = self.members.get(at) {
            out.untap(member.conn, &self.tap);
            at = member.links.next;
        }
        self.members = Pool::new();
        self.by_conn = HashTable::new();
        self.order = Ends::EMPTY;
        self.roles = [Ends::EMPTY; 3];
        self.rope = Rope::new(*b"[]");
        self.moving = None;
        true
    }

    /// Replaces the metadata.
    ///
    /// # Errors
    /// [`GroupError::Meta`].
    pub fn set_meta(&mut self, meta: RawJson) -> Result<(), GroupError> {
        check_meta(&meta, self.config.meta_bytes_max)?;
        self.config.meta = meta;
        Ok(())
    }

    /// The metadata.
    #[must_use]
    pub const fn meta(&self) -> &RawJson {
        &self.config.meta
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.tap[TAP.len()..]
    }

    /// The tap topic.
    #[must_use]
    pub fn tap(&self) -> &str {
        &self.tap
    }

    /// Number of members.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.members.len()
    }

    /// Whether the group was closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The role of a member.
    #[must_use]
    pub fn role(&self, conn: ConnId) -> Option<Role> {
        self.find(conn).map(|at| self.members[at].role)
    }

    /// All members in order of joining.
    pub fn members(&self) -> impl Iterator<Item = (ConnId, Role)> {
        let mut at = self.order.head;
        core::iter::from_fn(move || {
            let member = self.members.get(at)?;
            at = member.links.next;
            Some((member.conn, member.role))
        })
    }

    /// The list of members as newcomers get it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.rope.snapshot()
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> GroupStats {
        self.stats
    }

    fn announce(&self, event: &str, role: Role, out: &mut impl Effects) {
        // A count has twenty digits at most.
        let mut digits = [0; 20];
        let count = write_count(self.members.len(), &mut digits);
        let role = role.as_str().as_bytes();
        let data = [br#"{"role":""#, role, br#"","count":"#, count, b"}"];
        out.publish(&self.tap, event, &Data::pieces(&data));
    }

    fn find(&self, conn: ConnId) -> Option<u32> {
        let is_it = |at: &u32| self.members[*at].conn == conn;
        self.by_conn
            .find(self.hasher.hash_one(conn), is_it)
            .copied()
    }

    fn add(&mut self, conn: ConnId, role: Role) {
        let at = self.members.insert(Member {
            conn,
            links: Links::NONE,
            in_role: Links::NONE,
            place: self.rope.push(role.listed()),
            role,
        });
        self.order.push(&mut self.members, at, links);
        self.roles[role as usize].push(&mut self.members, at, role_links);
        if self.moving == Some(NIL) {
            self.moving = Some(at);
        }
        let (members, hasher) = (&self.members, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(members[*at].conn);
        self.by_conn
            .insert_unique(hasher.hash_one(conn), at, rehash);
    }

    fn remove(&mut self, at: u32) -> Role {
        let member = &self.members[at];
        let (conn, role, place) = (member.conn, member.role, member.place);
        if self.moving == Some(at) {
            self.moving = Some(member.links.next);
        }
        self.rope.remove(place);
        self.order.unlink(&mut self.members, at, links);
        self.roles[role as usize].unlink(&mut self.members, at, role_links);
        let hash = self.hasher.hash_one(conn);
        if let Ok(found) = self.by_conn.find_entry(hash, |other| *other == at) {
            found.remove();
        }
        self.members.remove(at);
        role
    }

    /// Does a little of what keeps the rope free of holes.
    fn tidy(&mut self) {
        const STEPS: usize = 4;
        if self.moving.is_none() && self.rope.is_wasteful() {
            self.moving = Some(self.order.head);
        }
        for _ in 0..STEPS {
            let Some(at) = self.moving else { return };
            let Some(member) = self.members.get_mut(at) else {
                self.rope.finish();
                self.moving = None;
                return;
            };
            member.place = self.rope.shift(member.place);
            self.moving = Some(member.links.next);
        }
    }
}

fn check_meta(meta: &RawJson, limit: usize) -> Result<(), GroupError> {
    let len = meta.as_bytes().len();
    if len > limit {
        return Err(GroupError::Meta { len, limit });
    }
    Ok(())
}

fn write_count(mut count: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (count % 10) as u8;
        count /= 10;
        if count == 0 || at == 0 {
            return &digits[at..];
        }
    }
}

// What the documentation promises: a place, a slot of the table, the longest text, its length.
const _: () = assert!(Pool::<Member>::PLACE_BYTES + 8 + 18 + 4 <= 90);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_whole() {
        for count in [0, 9, 10, 12_345, usize::MAX] {
            let mut digits = [0; 20];
            assert_eq!(
                write_count(count, &mut digits),
                count.to_string().as_bytes()
            );
        }
    }

    #[test]
    fn roles_have_names() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            let listed = format!(",{{\"role\":\"{role}\"}}");
            assert_eq!(role.listed(), listed.as_bytes());
        }
        assert_eq!(Role::parse(""), None);
    }
}
