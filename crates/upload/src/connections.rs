//! What a connection's uploads have in common.

use hashbrown::HashMap;
use millstream_core::{ConnId, Key};
use smallvec::SmallVec;

/// Connections that have sent an upload, until they close.
#[derive(Debug, Default)]
pub(crate) struct Connections(HashMap<ConnId, Connection>);

#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// In the order in which they were opened.
    pub(crate) uploads: SmallVec<[Key; 4]>,
    /// How many of them want reading to pause.
    blocking: u32,
    /// The frame limit was announced.
    announced: bool,
}

impl Connections {
    pub(crate) fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.0.get(&conn)
    }

    pub(crate) fn entry(&mut self, conn: ConnId) -> &mut Connection {
        self.0.entry(conn).or_default()
    }

    pub(crate) fn close(&mut self, conn: ConnId) -> Option<Connection> {
        self.0.remove(&conn)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Connection {
    /// How many were opened before it and are still there.
    pub(crate) fn before(&self, key: Key) -> usize {
        let place = self.uploads.iter().position(|other| *other == key);
        place.unwrap_or(self.uploads.len())
    }

    pub(crate) fn remove(&mut self, key: Key) {
        let place = self.before(key);
        if place < self.uploads.len() {
            self.uploads.remove(place);
        }
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.blocking > 0
    }

    /// One more or less wants a pause. Whether reading has to change.
    pub(crate) fn block(&mut self, on: bool) -> bool {
        let before = self.is_paused();
        if on {
            self.blocking += 1;
        } else {
            self.blocking -= 1;
        }
        before != self.is_paused()
    }

    /// Whether this is the first time.
    pub(crate) fn announce(&mut self) -> bool {
        !core::mem::replace(&mut self.announced, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_what_the_documentation_says() {
        assert_eq!(size_of::<Connection>(), 48);
        assert_eq!(size_of::<crate::entry::Entry>(), 216);
    }
}
