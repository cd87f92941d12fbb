//! Modules `bin`, `up` and `upx`: calls with bytes, and uploads.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::RawJson;
use millstream_live::{BinaryCall, Issue, LiveError, Module, Rest, Upload, UploadCall};
use serde::Serialize;
use tokio::time::sleep;

use crate::ctl::{Cx, raise};
use crate::identity::Identity;
use crate::state::Shared;

/// Sizes that the suite expects.
const CALL_BYTES_MAX: usize = 1_024;
const UPLOAD_BYTES_MAX: u64 = 200_000;
const SMALL_BYTES_MAX: u64 = 1_000;

type Receive = UploadCall<Shared, Identity>;

/// Module `bin`.
pub(crate) fn calls() -> Module<Shared, Identity> {
    Module::new("bin")
        .binary_with("sum", BinaryCall::new(sum).max_size(CALL_BYTES_MAX))
        .binary("fail", async |ctx: Cx, _: Bytes, code: String| {
            raise(ctx, code, Some("failed on purpose".to_owned())).await
        })
        .binary("failIssues", async |_: Cx, _: Bytes| -> Result<(), _> {
            Err(LiveError::validation(vec![Issue::new(["0"], "first byte")]))
        })
        .binary("crash", async |_: Cx, _: Bytes| -> Result<(), _> {
            Err(LiveError::internal("crashed on purpose"))
        })
}

#[derive(Serialize)]
struct Summed {
    bytes: usize,
    sum: u16,
    args: Vec<RawJson>,
}

async fn sum(_: Cx, bytes: Bytes, Rest(args): Rest) -> Result<Summed, LiveError> {
    Ok(Summed {
        bytes: bytes.len(),
        sum: add(0, &bytes),
        args,
    })
}

/// Sums are modulo 65536.
fn add(sum: u16, bytes: &[u8]) -> u16 {
    let add = |sum: u16, byte: &u8| sum.wrapping_add(u16::from(*byte));
    bytes.iter().fold(sum, add)
}

/// The number of bytes of a binary call.
pub(crate) async fn length(_: Cx, bytes: Bytes) -> Result<usize, LiveError> {
    Ok(bytes.len())
}

/// Module `up`.
pub(crate) fn uploads() -> Module<Shared, Identity> {
    Module::new("up")
        .upload_with("sum", usual(Receive::new(named)))
        .upload_with("small", usual(Receive::new(all)).max_size(SMALL_BYTES_MAX))
        .upload_with("slow", usual(Receive::new(slow)))
        .upload_with(
            "early",
            usual(Receive::new(async |_: Cx, mut upload: Upload| {
                upload.next().await.transpose()?;
                Ok("enough")
            })),
        )
        .upload_with(
            "fail",
            usual(Receive::new(
                async |ctx: Cx, mut upload: Upload, code: String| {
                    upload.next().await.transpose()?;
                    raise(ctx, code, Some("failed on purpose".to_owned())).await
                },
            )),
        )
        .upload_with(
            "crash",
            usual(Receive::new(
                async |_: Cx, mut upload: Upload| -> Result<(), _> {
                    upload.next().await.transpose()?;
                    Err(LiveError::internal("crashed on purpose"))
                },
            )),
        )
        .upload_with("watch", usual(Receive::new(watch)))
}

fn usual(upload: Receive) -> Receive {
    upload
        .max_size(UPLOAD_BYTES_MAX)
        .per_connection(2)
        .buffered_chunks(8)
}

#[derive(Serialize, Default)]
struct Drained {
    bytes: u64,
    sum: u16,
    chunks: u64,
}

/// Reads everything.
async fn drain(upload: &mut Upload, pause: Option<Duration>) -> Result<Drained, LiveError> {
    let mut drained = Drained::default();
    while let Some(chunk) = upload.next().await {
        drained.sum = add(drained.sum, &chunk?);
        drained.chunks += 1;
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
    drained.bytes = upload.bytes();
    Ok(drained)
}

#[derive(Serialize)]
struct Named {
    name: Option<String>,
    #[serde(flatten)]
    drained: Drained,
}

async fn named(_: Cx, mut upload: Upload, name: Option<String>) -> Result<Named, LiveError> {
    let drained = drain(&mut upload, None).await?;
    Ok(Named { name, drained })
}

async fn all(_: Cx, mut upload: Upload) -> Result<Drained, LiveError> {
    drain(&mut upload, None).await
}

async fn slow(_: Cx, mut upload: Upload, ms: u64) -> Result<Drained, LiveError> {
    drain(&mut upload, Some(Duration::from_millis(ms))).await
}

async fn watch(ctx: Cx, mut upload: Upload, log: String) -> Result<Drained, LiveError> {
    let drained = drain(&mut upload, None).await;
    if let Err(error) = &drained {
        ctx.state().log(&log, format!("ended {}", error.code()));
    }
    drained
}

/// Module `upx`, whose guard can change its mind.
pub(crate) fn guarded() -> Module<Shared, Identity> {
    Module::new("upx")
        .guard(async |ctx: Cx| {
            let Some(id) = ctx.user().and_then(|user| user.id.as_deref()) else {
                return Err(LiveError::new("UNAUTHENTICATED", "sign in first"));
            };
            match ctx.state().flag(&format!("revoked:{id}")) {
                Some(_) => Err(LiveError::new("REVOKED", "access was revoked")),
                None => Ok(()),
            }
        })
        .call("plain", async |_: Cx| Ok("plain"))
        .binary("bytes", length)
        .upload_with(
            "sum",
            Receive::new(async |_: Cx, mut upload: Upload| {
                let drained = drain(&mut upload, None).await?;
                Ok(serde_json::json!({ "bytes": drained.bytes }))
            })
            .max_size(UPLOAD_BYTES_MAX)
            .reauth_every(1_000),
        )
}
