//! Which connection holds which topic through which streams.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use millstream_core::ConnId;
use parking_lot::Mutex;

/// What a subscription's end has to run.
pub(crate) trait Ending: Send + Sync {
    /// The subscription is over; `remaining` other connections hold the topic.
    fn ended(&self, topic: Arc<str>, remaining: u64) -> crate::handler::BoxFuture<()>;
}

/// One logical subscription.
pub(crate) struct Owner {
    /// Tells it apart from others of the same connection and topic.
    pub(crate) id: u64,
    pub(crate) topic: Arc<str>,
    /// Absent when nothing has to run.
    pub(crate) ending: Option<Arc<dyn Ending>>,
}

/// All logical subscriptions, by connection. Bounded by the hub's limits on subscriptions and by
/// `owners_max` per connection.
pub(crate) struct Owners {
    shards: Box<[Shard]>,
    hasher: DefaultHashBuilder,
}

type Shard = Mutex<HashMap<ConnId, Vec<Owner>>>;

const SHARDS: usize = 64;

impl Owners {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    fn shard(&self, conn: ConnId) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(conn) >> 40).unwrap_or(0);
        &self.shards[hash % self.shards.len()]
    }

    /// Adds a subscription; false when the connection has too many.
    pub(crate) fn add(&self, conn: ConnId, owner: Owner, max: usize) -> bool {
        let mut shard = self.shard(conn).lock();
        let owners = shard.entry(conn).or_default();
        if owners.len() >= max {
            return false;
        }
        owners.push(owner);
        true
    }

    /// Says what a subscription's end has to run, and adds it again if something has ended it.
    pub(crate) fn put(&self, conn: ConnId, owner: Owner) {
        let mut shard = self.shard(conn).lock();
        let owners = shard.entry(conn).or_default();
        match owners.iter_mut().find(|other| other.id == owner.id) {
            Some(other) => *other = owner,
            None => owners.push(owner),
        }
    }

    /// Takes one subscription back; with it whether it was the last of its topic.
    pub(crate) fn take(&self, conn: ConnId, id: u64) -> Option<(Owner, bool)> {
        let mut shard = self.shard(conn).lock();
        let owners = shard.get_mut(&conn)?;
        let at = owners.iter().position(|owner| owner.id == id)?;
        let owner = owners.swap_remove(at);
        let last = owners.iter().all(|other| other.topic != owner.topic);
        if owners.is_empty() {
            shard.remove(&conn);
        }
        Some((owner, last))
    }

    /// Whether a connection holds a topic.
    pub(crate) fn holds(&self, conn: ConnId, topic: &str) -> bool {
        let shard = self.shard(conn).lock();
        let owners = shard.get(&conn);
        owners.is_some_and(|owners| owners.iter().any(|owner| *owner.topic == *topic))
    }

    /// Takes everything a connection holds of a topic, except some.
    pub(crate) fn take_topic(&self, conn: ConnId, topic: &str, except: &[u64]) -> Vec<Owner> {
        let mut shard = self.shard(conn).lock();
        let Some(owners) = shard.get_mut(&conn) else {
            return Vec::new();
        };
        let taken = owners
            .extract_if(.., |owner| {
                &*owner.topic == topic && !except.contains(&owner.id)
            })
            .collect();
        if owners.is_empty() {
            shard.remove(&conn);
        }
        taken
    }

    /// Takes everything a connection holds.
    pub(crate) fn take_all(&self, conn: ConnId) -> Vec<Owner> {
        self.shard(conn).lock().remove(&conn).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::Key;

    fn conn(index: u32) -> ConnId {
        ConnId::new(
            0,
            Key {
                index,
                generation: 1,
            },
        )
    }

    fn owner(id: u64, topic: &str) -> Owner {
        Owner {
            id,
            topic: topic.into(),
            ending: None,
        }
    }

    #[test]
    fn the_last_owner_of_a_topic_is_told_from_the_others() {
        let owners = Owners::new();
        for (id, topic) in [(1, "a"), (2, "a"), (3, "b")] {
            assert!(owners.add(conn(1), owner(id, topic), 3));
        }
        assert!(!owners.add(conn(1), owner(4, "c"), 3), "too many");
        assert!(owners.add(conn(2), owner(5, "a"), 3), "another connection");
        assert!(!owners.take(conn(1), 1).expect("held").1);
        assert!(owners.take(conn(1), 2).expect("held").1);
        assert!(owners.take(conn(1), 2).is_none());
        assert_eq!(owners.take_topic(conn(1), "b", &[]).len(), 1);
        assert!(owners.take_all(conn(1)).is_empty());
        assert_eq!(owners.take_all(conn(2)).len(), 1);
        assert!(owners.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
