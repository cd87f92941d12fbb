//! Who gets a topic's events: a list that needs no memory of its own while it is short.

/// Connections by slab index, in no order. 16 bytes.
#[derive(Debug)]
pub(crate) enum Listeners {
    Few { len: u8, conns: [u32; FEW] },
    Many(Box<Many>),
}

/// A list behind one pointer.
#[derive(Debug)]
pub(crate) struct Many {
    conns: Vec<u32>,
}

/// As many as fit beside the length.
const FEW: usize = 3;
/// A long list becomes a short one again at this length: not at once, so that one connection that
/// comes and goes costs nothing.
const FEW_AGAIN: usize = 1;

impl Default for Listeners {
    fn default() -> Self {
        let (len, conns) = (0, [0; FEW]);
        Self::Few { len, conns }
    }
}

impl Listeners {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few { len, conns } => conns.get(..usize::from(*len)).unwrap_or_default(),
            Self::Many(many) => &many.conns,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few { len, .. } => *len == 0,
            Self::Many(many) => many.conns.is_empty(),
        }
    }

    pub(crate) fn push(&mut self, conn: u32) {
        match self {
            Self::Many(many) => many.conns.push(conn),
            Self::Few { len, conns } => {
                if let Some(place) = conns.get_mut(usize::from(*len)) {
                    *place = conn;
                    *len += 1;
                } else {
                    let mut all = Vec::with_capacity(2 * FEW);
                    all.extend_from_slice(conns);
                    all.push(conn);
                    *self = Self::Many(Box::new(Many { conns: all }));
                }
            }
        }
    }

    /// Removes the connection at `at`; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        match self {
            Self::Few { len, conns } => {
                let last = usize::from(*len).saturating_sub(1);
                debug_assert!(at <= last, "a place that is taken");
                if let Some(conn) = conns.get(last).copied()
                    && let Some(place) = conns.get_mut(at)
                {
                    *place = conn;
                    *len = last as u8;
                }
            }
            Self::Many(many) => {
                many.conns.swap_remove(at);
                if many.conns.len() <= FEW_AGAIN {
                    let mut few = Self::default();
                    many.conns.iter().for_each(|conn| few.push(*conn));
                    *self = few;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_list_of_any_length() {
        assert_eq!(size_of::<Listeners>(), 16);
        let (mut list, mut model) = (Listeners::default(), Vec::new());
        let mut choice: u32 = 1;
        let mut longest = 0;
        for step in 0..2_000_u32 {
            choice = choice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Longer for some time, then shorter.
            let grow = if step % 100 < 50 { 3 } else { 1 };
            if model.is_empty() || choice >> 30 < grow {
                list.push(step);
                model.push(step);
            } else {
                let at = (choice >> 8) as usize % model.len();
                list.swap_remove(at);
                model.swap_remove(at);
            }
            assert_eq!(list.as_slice(), model);
            assert_eq!(
                (list.len(), list.is_empty()),
                (model.len(), model.is_empty())
            );
            longest = longest.max(model.len());
        }
        assert!(longest > 2 * FEW);
    }

    #[test]
    fn is_short_again_when_most_have_left() {
        let mut list = Listeners::default();
        (0..4).for_each(|conn| list.push(conn));
        list.swap_remove(0);
        list.swap_remove(0);
        assert!(matches!(list, Listeners::Many(_)));
        list.swap_remove(0);
        assert!(matches!(list, Listeners::Few { len: 1, .. }));
    }
}
