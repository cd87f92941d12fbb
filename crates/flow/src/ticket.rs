//! Names for those who wait.

/// Names one task or waiter of one engine.
///
/// Its number is never given out again, so a ticket that is kept too long names nothing rather than
/// somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(crate) number: u64,
    pub(crate) index: u32,
}

impl Ticket {
    /// A number that grows with every ticket of the engine.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }
}
