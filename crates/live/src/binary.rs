//! Calls and uploads as they are registered: a function and what it allows.

use core::fmt;
use core::num::NonZeroU64;

use bytes::Bytes;
use millstream_upload::Terms;

use crate::app::Problem;
use crate::call::Call;
use crate::input::{InputHandler, erase_bytes, erase_upload};
use crate::upload::Upload;
use crate::user::User;

/// Bytes a binary call may carry unless it says otherwise: 10 MiB.
const PAYLOAD_BYTES_MAX: usize = 10 * 1024 * 1024;

/// A call whose first argument is raw bytes, with its options.
///
/// ```
/// use bytes::Bytes;
/// use millstream_live::{BinaryCall, Ctx, LiveError};
///
/// async fn avatar(_: Ctx<(), String>, image: Bytes, name: String) -> Result<String, LiveError> {
///     Ok(format!("{name}: {} bytes", image.len()))
/// }
/// let call: BinaryCall<(), String> = BinaryCall::new(avatar)
///     .max_size(64 * 1024)
///     .options(|call| call.scoped(async |ctx, _| Ok(ctx.user().is_some())));
/// # let _ = call;
/// ```
pub struct BinaryCall<S, U> {
    pub(crate) call: Call<S, U>,
    pub(crate) size_max: usize,
}

impl<S, U> fmt::Debug for BinaryCall<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinaryCall")
            .field("call", &self.call)
            .field("size_max", &self.size_max)
            .finish()
    }
}

impl<S: Send + Sync + 'static, U: User> BinaryCall<S, U> {
    /// A binary call without options.
    pub fn new<P: 'static>(handler: impl InputHandler<S, U, Bytes, P>) -> Self {
        Self {
            call: Call::erased(erase_bytes(handler)),
            size_max: PAYLOAD_BYTES_MAX,
        }
    }

    /// Most bytes of payload; more are `PAYLOAD_TOO_LARGE` before anything else runs. Default
    /// 10 MiB, and never more than the transport's largest message. 0 is refused when the
    /// application is built.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.size_max = bytes;
        self
    }

    /// Everything that any call can have.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(Call<S, U>) -> Call<S, U>) -> Self {
        self.call = change(self.call);
        self
    }
}

impl<S, U> BinaryCall<S, U> {
    pub(crate) fn problem(&self) -> Option<Problem> {
        (self.size_max == 0).then_some(Problem::Zero("max_size"))
    }
}

/// A function that takes an upload, with its options.
///
/// ```
/// use millstream_live::{Ctx, LiveError, Upload, UploadCall};
///
/// async fn store(_: Ctx<(), String>, mut file: Upload, name: String) -> Result<u64, LiveError> {
///     while let Some(bytes) = file.next().await {
///         let _ = (bytes?, &name); // to be written somewhere
///     }
///     Ok(file.bytes())
/// }
/// let upload: UploadCall<(), String> = UploadCall::new(store)
///     .max_size(2 * 1024 * 1024 * 1024)
///     .buffered_chunks(16)
///     .reauth_every(1024 * 1024);
/// # let _ = upload;
/// ```
pub struct UploadCall<S, U> {
    pub(crate) call: Call<S, U>,
    pub(crate) terms: Terms,
    /// `reauth_every(0)`, which the terms cannot hold.
    reauth_zero: bool,
}

impl<S, U> fmt::Debug for UploadCall<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadCall")
            .field("call", &self.call)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> UploadCall<S, U> {
    /// An upload without options.
    pub fn new<P: 'static>(handler: impl InputHandler<S, U, Upload, P>) -> Self {
        Self {
            call: Call::erased(erase_upload(handler)),
            terms: Terms::default(),
            reauth_zero: false,
        }
    }

    /// Most bytes of one upload; more are `PAYLOAD_TOO_LARGE`. Default 100 MiB.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.terms.size_max = bytes;
        self
    }

    /// Most uploads of one connection at once, of whatever function, counted in the order in which
    /// they were opened. Others are `TOO_MANY_UPLOADS`. Default 4.
    #[must_use]
    pub fn per_connection(mut self, uploads: usize) -> Self {
        self.terms.per_connection_max = uploads;
        self
    }

    /// Most uploads of the process at once, of whatever function. Others are `TOO_MANY_UPLOADS`.
    /// Default: no limit but those of memory.
    #[must_use]
    pub fn per_process(mut self, uploads: u32) -> Self {
        self.terms.total_max = uploads;
        self
    }

    /// Chunks that may wait for the function. When so many do, nothing more is read from the
    /// connection until half of them are taken. Default 64.
    #[must_use]
    pub fn buffered_chunks(mut self, chunks: usize) -> Self {
        self.terms.waiting_chunks_max = chunks;
        self
    }

    /// Runs the module's guard again, beside the transfer, whenever so many more bytes have come.
    /// What it fails with ends the upload. Default: never.
    #[must_use]
    pub fn reauth_every(mut self, bytes: u64) -> Self {
        self.terms.reauthorize_every = NonZeroU64::new(bytes);
        self.reauth_zero = bytes == 0;
        self
    }

    /// Everything that any call can have.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(Call<S, U>) -> Call<S, U>) -> Self {
        self.call = change(self.call);
        self
    }
}

impl<S, U> UploadCall<S, U> {
    pub(crate) fn problem(&self) -> Option<Problem> {
        let options = [
            ("max_size", self.terms.size_max == 0),
            ("per_connection", self.terms.per_connection_max == 0),
            ("per_process", self.terms.total_max == 0),
            ("buffered_chunks", self.terms.waiting_chunks_max == 0),
            ("reauth_every", self.reauth_zero),
        ];
        let zero = options.into_iter().find(|(_, zero)| *zero);
        zero.map(|(option, _)| Problem::Zero(option))
    }
}
