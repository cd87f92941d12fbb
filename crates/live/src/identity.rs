//! Who a caller is to limits and remembered results, and verbs that ask the engine.

use core::time::Duration;

use millstream_ratelimit::LimitKey;

use crate::ctx::Ctx;
use crate::error::{LiveError, code};
use crate::skip::Window;
use crate::user::User;

/// Work that no client asked for.
const NOBODY: u64 = 2;

impl<S, U: User> Ctx<S, U> {
    /// Whose calls are counted together: those of a user, else those of a connection, else those
    /// that no client asked for.
    pub(crate) fn limit_key(&self) -> LimitKey {
        let keys = &self.engine().keys;
        match (self.user().and_then(User::id), self.conn()) {
            (Some(id), _) => keys.text(&id),
            (None, Some(conn)) => keys.conn(conn),
            (None, None) => keys.under(NOBODY, keys.text("")),
        }
    }

    /// A key that no other user's key is equal to.
    pub(crate) fn scoped_key(&self, key: &str) -> String {
        match (self.user().and_then(User::id), self.conn()) {
            // With its length, no id can end where a key begins.
            (Some(id), _) => format!("user:{}:{id}:{key}", id.len()),
            (None, Some(conn)) => format!("conn:{}:{key}", conn.to_u64()),
            (None, None) => format!("nobody:{key}"),
        }
    }

    /// Whether something with this name was done on this path within a time, by anybody: false
    /// for the first, which opens a window of that length; true for all others until it ends.
    /// More than `skip_windows_max` windows are not opened: then the answer is false.
    ///
    /// ```
    /// use core::time::Duration;
    /// use millstream_live::{Ctx, LiveError};
    ///
    /// async fn typing(ctx: Ctx<(), ()>, room: String) -> Result<(), LiveError> {
    ///     if !ctx.skip(&room, Duration::from_secs(3))? {
    ///         ctx.publish(&format!("room:{room}"), "typing", &())?;
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = typing;
    /// ```
    ///
    /// # Errors
    /// `INVALID_ARG` for no time at all, or a key of more than 256 UTF-16 units.
    pub fn skip(&self, key: &str, duration: Duration) -> Result<bool, LiveError> {
        const KEY_UNITS_MAX: usize = 256;
        if duration.is_zero() || key.encode_utf16().count() > KEY_UNITS_MAX {
            let text = "skip takes a key of at most 256 characters and a time above zero";
            return Err(LiveError::new(code::INVALID_ARG, text));
        }
        let engine = self.engine();
        let now = engine.platform.now();
        let window = engine.windows.lock().open(now, self.path(), key, duration);
        if window == Window::Full {
            engine.counters.skip_overflows.add();
        }
        Ok(window == Window::Open)
    }

    /// Whether work of a class is to be refused under the present load. False for every class of
    /// an application without [`Admission`](crate::Admission).
    ///
    /// # Errors
    /// `INTERNAL_ERROR` for a class that was not declared.
    pub fn shed(&self, class: &str) -> Result<bool, LiveError> {
        let engine = self.engine();
        let Some(admission) = &engine.app.admission else {
            return Ok(false);
        };
        let shed = admission.sheds(class, &engine.platform.pressure());
        shed.ok_or_else(|| LiveError::internal(format!("unknown class of service {class:?}")))
    }
}
