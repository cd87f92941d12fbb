//! Who somebody is, as far as the framework has to know.

use std::borrow::Cow;

/// The identity that the upgrade hook attached to a connection.
///
/// Limits, idempotency and presence count by [`id`](Self::id), so that two tabs of one person are
/// one person.
///
/// ```
/// use millstream_live::User;
/// use std::borrow::Cow;
///
/// struct Account { number: u64 }
///
/// impl User for Account {
///     fn id(&self) -> Option<Cow<'_, str>> {
///         Some(self.number.to_string().into())
///     }
/// }
/// assert_eq!(Account { number: 7 }.id().unwrap(), "7");
/// ```
pub trait User: Send + Sync + 'static {
    /// A text that stands for this user and no other.
    fn id(&self) -> Option<Cow<'_, str>>;

    /// The role, for [`access::role`](crate::access::role).
    fn role(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// The team, for [`access::team`](crate::access::team).
    fn team(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// The organization, for [`access::org`](crate::access::org).
    fn organization(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Whether this is a user at all. What says no here is kept with the connection, but
    /// [`Ctx::user`](crate::Ctx::user) does not show it and guards take the caller for unknown.
    fn is_known(&self) -> bool {
        true
    }
}

/// A user who is nothing but an id.
impl User for String {
    fn id(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self))
    }
}

/// For applications without users.
impl User for () {
    fn id(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn is_known(&self) -> bool {
        false
    }
}
