//! What a hook on a worker thread may do with its connection.

use std::marker::PhantomData;

/// The connection a worker hook runs for, and the verbs it may use.
#[derive(Debug)]
pub struct Context<'a> {
    _worker: PhantomData<&'a mut ()>,
}
