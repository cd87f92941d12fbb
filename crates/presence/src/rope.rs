//! A long list of small texts whose present state can be kept for the price of a reference count.
//!
//! Texts are packed into leaves of a few kilobytes, leaves hang in a tree three levels deep. A
//! snapshot shares the root; what is changed afterwards is copied on its way from the root, once
//! per snapshot (path copying, as persistent vectors do it).

use core::fmt;
use core::mem;
use std::sync::Arc;

use bytes::Bytes;

/// A leaf takes no more texts from here on.
const LEAF_BYTES: usize = 4096;
const LEAF_SLOTS: usize = 64;
const FAN_BITS: u32 = 4;
const FAN: usize = 1 << FAN_BITS;

type Low = Vec<Arc<Leaf>>;
type Mid = Vec<Arc<Low>>;
type Top = Vec<Arc<Mid>>;

/// Where a text lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    leaf: u32,
    slot: u16,
    /// Which of the two trees, see [`Rope`].
    second: bool,
}

/// Texts in the order in which they were pushed, each beginning with a comma, so that any run of
/// them is the inside of a JSON array or object but for the first byte.
///
/// Removed texts leave empty slots behind. When there are too many, the texts are moved to the
/// other tree, oldest first and a few at a time, by the owner, who knows where each one lies:
/// [`is_wasteful`](Self::is_wasteful), [`shift`](Self::shift), [`finish`](Self::finish). At any
/// time the list is `moved` followed by `rest`.
#[derive(Debug)]
pub(crate) struct Rope {
    brackets: [u8; 2],
    moved: Tree,
    rest: Tree,
    /// Whether `rest` is the tree that places call the second.
    rest_is_second: bool,
}

impl Rope {
    /// An empty list; `brackets` enclose it in snapshots.
    pub(crate) fn new(brackets: [u8; 2]) -> Self {
        Self {
            brackets,
            moved: Tree::default(),
            rest: Tree::default(),
            rest_is_second: false,
        }
    }

    /// Appends a text, which begins with a comma.
    pub(crate) fn push(&mut self, text: &[u8]) -> Place {
        let (leaf, slot) = self.rest.push(text);
        Place {
            leaf,
            slot,
            second: self.rest_is_second,
        }
    }

    /// Takes out the text at `place`.
    pub(crate) fn remove(&mut self, place: Place) {
        self.tree_mut(place).splice(place, &[]);
    }

    /// Puts another text in its place.
    pub(crate) fn replace(&mut self, place: Place, text: &[u8]) {
        self.tree_mut(place).splice(place, text);
    }

    /// The text at `place`.
    pub(crate) fn text(&self, place: Place) -> &[u8] {
        let tree = if place.second == self.rest_is_second {
            &self.rest
        } else {
            &self.moved
        };
        let leaf = tree.leaf(place.leaf);
        &leaf.text[leaf.range(usize::from(place.slot))]
    }

    /// Whether moving should begin.
    pub(crate) const fn is_wasteful(&self) -> bool {
        let live = self.rest.live;
        self.moved.slots == 0 && self.rest.slots - live > live / 2 + LEAF_SLOTS
    }

    /// Moves the oldest text that has not been moved.
    pub(crate) fn shift(&mut self, place: Place) -> Place {
        let text = self.text(place).to_vec();
        self.remove(place);
        let (leaf, slot) = self.moved.push(&text);
        Place {
            leaf,
            slot,
            second: !self.rest_is_second,
        }
    }

    /// All texts have been moved.
    pub(crate) fn finish(&mut self) {
        debug_assert_eq!(self.rest.live, 0);
        self.rest = mem::take(&mut self.moved);
        self.rest_is_second = !self.rest_is_second;
    }

    /// The texts in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.moved.texts().chain(self.rest.texts())
    }

    /// Number of texts.
    pub(crate) const fn len(&self) -> usize {
        self.moved.live + self.rest.live
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let inside = (self.moved.bytes + self.rest.bytes).saturating_sub(1);
        Snapshot {
            brackets: self.brackets,
            moved: Arc::clone(&self.moved.top),
            rest: Arc::clone(&self.rest.top),
            len: inside + 2,
            count: self.len(),
        }
    }

    const fn tree_mut(&mut self, place: Place) -> &mut Tree {
        if place.second == self.rest_is_second {
            &mut self.rest
        } else {
            &mut self.moved
        }
    }
}

#[derive(Debug, Default)]
struct Tree {
    top: Arc<Top>,
    leaves: u32,
    live: usize,
    /// Slots in use and left behind.
    slots: usize,
    bytes: usize,
}

impl Tree {
    fn push(&mut self, text: &[u8]) -> (u32, u16) {
        let last = self.leaves.checked_sub(1);
        let at = match last {
            Some(last) if !self.leaf(last).is_full() => last,
            _ => self.push_leaf(),
        };
        self.live += 1;
        self.slots += 1;
        self.bytes += text.len();
        let leaf = self.leaf_mut(at);
        leaf.text.extend_from_slice(text);
        leaf.lens.push(text.len() as u32);
        (at, (leaf.lens.len() - 1) as u16)
    }

    /// Replaces a text; by nothing: removes it.
    fn splice(&mut self, place: Place, text: &[u8]) {
        let is_tail = place.leaf + 1 == self.leaves;
        let leaf = self.leaf_mut(place.leaf);
        let range = leaf.range(usize::from(place.slot));
        let old = range.len();
        let slots = leaf.lens.len();
        leaf.replace(usize::from(place.slot), range, text);
        if text.is_empty() && leaf.lens.is_empty() && !is_tail {
            *leaf = Leaf::default();
        }
        self.slots -= slots - leaf.lens.len();
        self.bytes = self.bytes - old + text.len();
        self.live -= usize::from(text.is_empty());
    }

    fn leaf(&self, at: u32) -> &Leaf {
        let [top, mid, low] = path(at);
        &self.top[top][mid][low]
    }

    fn leaf_mut(&mut self, at: u32) -> &mut Leaf {
        let [top, mid, low] = path(at);
        let mids = Arc::make_mut(&mut Arc::make_mut(&mut self.top)[top]);
        Arc::make_mut(&mut Arc::make_mut(&mut mids[mid])[low])
    }

    fn push_leaf(&mut self) -> u32 {
        let [top, mid, _] = path(self.leaves);
        let tops = Arc::make_mut(&mut self.top);
        if tops.len() == top {
            tops.push(Arc::default());
        }
        let mids = Arc::make_mut(&mut tops[top]);
        if mids.len() == mid {
            mids.push(Arc::default());
        }
        Arc::make_mut(&mut mids[mid]).push(Arc::default());
        self.leaves += 1;
        self.leaves - 1
    }

    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        leaves(&self.top).flat_map(Leaf::texts)
    }
}

fn leaves(top: &Top) -> impl Iterator<Item = &Leaf> {
    shared_leaves(top).map(|leaf| &**leaf)
}

fn shared_leaves(top: &Top) -> impl Iterator<Item = &Arc<Leaf>> {
    top.iter()
        .flat_map(|mid| mid.iter().flat_map(|low| low.iter()))
}

const fn path(leaf: u32) -> [usize; 3] {
    let leaf = leaf as usize;
    [
        leaf >> (2 * FAN_BITS),
        (leaf >> FAN_BITS) & (FAN - 1),
        leaf & (FAN - 1),
    ]
}

#[derive(Debug, Default)]
struct Leaf {
    text: Vec<u8>,
    /// Length of each text, zero for a removed one. Never ends with a zero.
    lens: Vec<u32>,
}

impl Leaf {
    const fn is_full(&self) -> bool {
        self.text.len() >= LEAF_BYTES || self.lens.len() >= LEAF_SLOTS
    }

    fn range(&self, slot: usize) -> core::ops::Range<usize> {
        let start = self.lens[..slot].iter().map(|len| *len as usize).sum();
        start..start + self.lens[slot] as usize
    }

    fn replace(&mut self, slot: usize, range: core::ops::Range<usize>, text: &[u8]) {
        if text.is_empty() {
            self.text.drain(range);
        } else if text.len() == range.len() {
            self.text[range].copy_from_slice(text);
        } else {
            self.text.splice(range, text.iter().copied());
        }
        self.lens[slot] = text.len() as u32;
        while self.lens.last() == Some(&0) {
            self.lens.pop();
        }
    }

    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.text[..];
        self.lens.iter().filter(|len| **len > 0).map(move |len| {
            let (text, behind) = rest.split_at(*len as usize);
            rest = behind;
            text
        })
    }
}

impl Clone for Leaf {
    /// With room for one more text: the last leaf is copied because it grows.
    fn clone(&self) -> Self {
        let mut text = Vec::with_capacity(self.text.len() + 256);
        text.extend_from_slice(&self.text);
        let mut lens = Vec::with_capacity(self.lens.len() + 4);
        lens.extend_from_slice(&self.lens);
        Self { text, lens }
    }
}

/// A JSON array or object as it was at one moment, in shared pieces.
///
/// It holds the roster of a topic (`{"key":record,...}`) or the members of a group (`[...]`) by
/// reference: cloning costs a few reference counts however long the list is, and it never changes
/// although the list does. The pieces are some 4 KiB each.
///
/// # Example
/// ```
/// use millstream_core::RawJson;
/// use millstream_presence::{Presence, PresenceConfig};
///
/// let presence = Presence::new(PresenceConfig::default());
/// let nobody = presence.snapshot("room");
/// assert_eq!(nobody.to_vec(), b"{}");
/// ```
#[derive(Clone)]
pub struct Snapshot {
    brackets: [u8; 2],
    moved: Arc<Top>,
    rest: Arc<Top>,
    len: usize,
    count: usize,
}

impl Snapshot {
    /// An object or array without members.
    pub(crate) fn empty(brackets: [u8; 2]) -> Self {
        Rope::new(brackets).snapshot()
    }

    /// The pieces in order; together they are one JSON value.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let texts = leaves(&self.moved)
            .chain(leaves(&self.rest))
            .map(|leaf| &leaf.text[..])
            .filter(|text| !text.is_empty())
            .enumerate()
            // Without the comma in front of the first member.
            .map(|(at, text)| if at == 0 { &text[1..] } else { text });
        let [open, close] = self.brackets.each_ref();
        core::iter::once(core::slice::from_ref(open))
            .chain(texts)
            .chain(core::iter::once(core::slice::from_ref(close)))
    }

    /// The pieces as shared bytes, which outlive the snapshot: to be queued for a socket.
    ///
    /// # Cost
    /// One small allocation per piece; no byte of a member is copied.
    pub fn shared_parts(&self) -> impl Iterator<Item = Bytes> {
        let texts = shared_leaves(&self.moved)
            .chain(shared_leaves(&self.rest))
            .filter(|leaf| !leaf.text.is_empty())
            .enumerate()
            .map(|(at, leaf)| {
                Bytes::from_owner(LeafText(Arc::clone(leaf))).slice(usize::from(at == 0)..)
            });
        let (open, close) = match self.brackets[0] {
            b'{' => ("{", "}"),
            _ => ("[", "]"),
        };
        core::iter::once(Bytes::from_static(open.as_bytes()))
            .chain(texts)
            .chain(core::iter::once(Bytes::from_static(close.as_bytes())))
    }

    /// Bytes of all pieces.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the array or object has no members.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of members.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// All pieces copied into one text.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len);
        self.parts().for_each(|part| out.extend_from_slice(part));
        out
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_vec()))
    }
}

struct LeafText(Arc<Leaf>);

impl AsRef<[u8]> for LeafText {
    fn as_ref(&self) -> &[u8] {
        &self.0.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> Vec<u8> {
        format!(",\"{n}\":{}", "x".repeat(n % 90)).into_bytes()
    }

    /// Long lists with holes, moved while they are changed, against a plain list.
    #[test]
    fn agrees_with_a_plain_list() {
        let mut rope = Rope::new(*b"{}");
        let mut plain: Vec<(Place, Vec<u8>)> = Vec::new();
        let mut moved = None::<usize>;
        let mut kept = Vec::new();
        let mut moves = 0;
        for n in 0..40_000 {
            let item = text(n);
            plain.push((rope.push(&item), item));
            // Three quarters of all go again, from everywhere.
            if n % 4 != 0 || n > 30_000 {
                let at = (n * 7919) % plain.len();
                let (place, _) = plain.remove(at);
                rope.remove(place);
                moved = moved.map(|moved| if at < moved { moved - 1 } else { moved });
            }
            if n % 5 == 0 && !plain.is_empty() {
                let at = (n * 31) % plain.len();
                plain[at].1 = text(n + 1);
                rope.replace(plain[at].0, &plain[at].1);
            }
            if moved.is_none() && rope.is_wasteful() {
                moved = Some(0);
            }
            for _ in 0..4 {
                let Some(at) = moved else { break };
                if let Some((place, _)) = plain.get_mut(at) {
                    *place = rope.shift(*place);
                    moved = Some(at + 1);
                } else {
                    rope.finish();
                    moved = None;
                    moves += 1;
                }
            }
            assert_eq!(rope.len(), plain.len());
            if n % 997 == 0 {
                let texts = plain.iter().flat_map(|(_, text)| text).copied();
                let mut all: Vec<u8> = texts.collect();
                assert!(!all.is_empty(), "more come than go");
                all.push(b'}');
                all[0] = b'{';
                kept.push((rope.snapshot(), all));
                assert!(rope.texts().eq(plain.iter().map(|(_, text)| &text[..])));
            }
        }
        assert!(moves > 5, "{moves}");
        for (snapshot, all) in kept {
            assert_eq!(snapshot.to_vec(), all);
            assert_eq!(snapshot.len(), all.len());
            let shared: Vec<u8> = snapshot.shared_parts().flatten().collect();
            assert_eq!(shared, all);
        }
        // What was removed is really gone, not only hidden.
        let leaves = rope.rest.leaves + rope.moved.leaves;
        assert!((leaves as usize) < plain.len() / 20 + 10, "{leaves} leaves");
    }

    #[test]
    fn a_change_copies_a_path_and_not_the_list() {
        let mut rope = Rope::new(*b"[]");
        let places: Vec<Place> = (0..10_000).map(|n| rope.push(&text(n))).collect();
        let before = rope.snapshot();
        rope.remove(places[5_000]);
        let after = rope.snapshot();
        let differ = shared_leaves(&before.rest)
            .zip(shared_leaves(&after.rest))
            .filter(|(a, b)| !Arc::ptr_eq(a, b))
            .count();
        assert_eq!(differ, 1);
        assert_eq!((before.count(), after.count()), (10_000, 9_999));
    }

    #[test]
    fn coming_and_going_at_the_end_leaves_no_waste() {
        let mut rope = Rope::new(*b"{}");
        rope.push(b",1");
        for _ in 0..100_000 {
            let place = rope.push(b",2");
            rope.remove(place);
        }
        assert_eq!((rope.rest.leaves, rope.rest.slots, rope.len()), (1, 1, 1));
    }
}
