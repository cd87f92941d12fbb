//! What a value keeps alive, so that budgets can count bytes and not only entries.

use bytes::Bytes;
use millstream_core::RawJson;

/// The bytes a value holds on the heap.
///
/// Engines that keep values ask for this once when a value comes in and once when it goes, so it
/// has to give the same answer both times: for values that change, weigh the most they may hold.
/// Shared memory counts in full for everybody who shares it.
///
/// ```
/// use millstream_flow::Weigh;
///
/// struct Job { input: String, retries: u32 }
///
/// impl Weigh for Job {
///     fn weight(&self) -> usize {
///         self.input.len()
///     }
/// }
/// assert_eq!(Job { input: "abc".into(), retries: 0 }.weight(), 3);
/// ```
pub trait Weigh {
    /// Bytes on the heap. The fixed size of the value itself is covered by the entry limits.
    fn weight(&self) -> usize;
}

impl Weigh for Bytes {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for RawJson {
    fn weight(&self) -> usize {
        self.as_bytes().len()
    }
}

impl Weigh for str {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for String {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for &str {
    fn weight(&self) -> usize {
        0
    }
}

impl<T> Weigh for Vec<T> {
    fn weight(&self) -> usize {
        self.len() * size_of::<T>()
    }
}

impl<T: Weigh + ?Sized> Weigh for Box<T> {
    fn weight(&self) -> usize {
        (**self).weight()
    }
}

impl<T: Weigh + ?Sized> Weigh for std::sync::Arc<T> {
    fn weight(&self) -> usize {
        (**self).weight()
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, Weigh::weight)
    }
}

impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn weight(&self) -> usize {
        self.0.weight() + self.1.weight()
    }
}

macro_rules! weightless {
    ($($kind:ty),*) => { $(
        impl Weigh for $kind {
            fn weight(&self) -> usize {
                0
            }
        }
    )* };
}

weightless!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i32,
    i64,
    f64
);
