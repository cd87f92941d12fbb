//! Messages of any bytes to an application of calls, streams, calls with bytes and uploads: nothing
//! panics, everything that was opened is answered once at most, and nothing is left in the end.
#![no_main]

use std::any::Any;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_core::{ConnId, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};
use millstream_live::{
    App, BoxFuture, Caller, Ctx, Handled, Live, LiveError, Module, Platform, Reply, Rest, Stream,
    Upload, UploadCall,
};

#[derive(Default)]
struct World {
    replies: AtomicUsize,
    paused: Mutex<bool>,
    spawned: Mutex<Vec<BoxFuture<()>>>,
}

impl Platform for World {
    fn publish(
        &self,
        _: &str,
        _: &str,
        _: RawJsonRef<'_>,
        _: PublishOptions,
    ) -> Result<Published, PublishError> {
        Ok(Published {
            delivered: true,
            seq: None,
            queued: false,
        })
    }

    fn publish_batched(&self, _: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        Ok(Vec::new())
    }

    fn send(&self, _: ConnId, _: &str, _: &str, _: RawJson) {}

    fn reply(&self, _: ConnId, reply: Reply) {
        assert!(RawJsonRef::parse(reply.data.as_bytes()).is_ok());
        self.replies.fetch_add(1, Ordering::Relaxed);
    }

    fn set_reading(&self, _: ConnId, on: bool) {
        let paused = std::mem::replace(&mut *self.paused.lock().expect("lock"), !on);
        assert_eq!(paused, on, "told what it knows");
    }

    fn frame_bytes_max(&self) -> Option<u32> {
        Some(65_536)
    }

    fn release(&self, _: ConnId, _: &str, _: u64) {}

    fn subscribe(&self, _: ConnId, _: &str, _: u64) -> BoxFuture<Result<(), String>> {
        Box::pin(ready(Ok(())))
    }

    fn unsubscribe(&self, _: ConnId, _: &str, _: u64) -> BoxFuture<()> {
        Box::pin(ready(()))
    }

    fn position(&self, _: &str) -> Option<u64> {
        None
    }

    fn since(&self, _: &str, _: u64) -> Option<History> {
        None
    }

    fn subscribers(&self, _: &str) -> u64 {
        0
    }

    fn now(&self) -> Millis {
        Millis::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(pending())
    }

    fn spawn(&self, work: BoxFuture<()>) {
        self.spawned.lock().expect("lock").push(work);
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

type Cx = Ctx<(), ()>;

async fn drain(_: Cx, mut upload: Upload, _: Rest) -> Result<u64, LiveError> {
    while let Some(chunk) = upload.next().await {
        chunk?;
    }
    Ok(upload.bytes())
}

fn app() -> App<(), ()> {
    let module = Module::new("a")
        .call("c", async |_: Cx, Rest(all): Rest| Ok(all))
        .stream("s", Stream::by(|name: String| format!("t:{name}")))
        .binary("b", async |_: Cx, bytes: Bytes, Rest(_): Rest| {
            Ok(bytes.len())
        })
        .upload_with(
            "u",
            UploadCall::new(drain)
                .max_size(1_000)
                .per_connection(3)
                .buffered_chunks(2)
                .reauth_every(16),
        )
        .upload("n", async |_: Cx, upload: Upload| {
            Err::<(), _>(upload.cancelled().await)
        });
    App::new(()).module(module).build().expect("valid")
}

/// Polls what runs, once each.
fn poll_all<T>(running: &mut Vec<BoxFuture<T>>) {
    let mut cx = Context::from_waker(Waker::noop());
    running.retain_mut(|one| matches!(one.as_mut().poll(&mut cx), Poll::Pending));
}

fuzz_target!(|data: &[u8]| {
    let world = Arc::new(World::default());
    let live = Live::new(app(), Arc::clone(&world) as _);
    let conn = ConnId::from_u64(7);
    let caller = Caller {
        conn: Some(conn),
        ..Caller::nobody()
    };
    let mut running: Vec<BoxFuture<Option<Reply>>> = Vec::new();
    let mut rest = data;
    // Each message: its length, what happens besides, and its bytes.
    while let Some(([length, besides], after)) = rest.split_first_chunk::<2>().map(|(a, b)| (*a, b))
    {
        let (message, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let handled = if besides & 1 == 0 {
            live.handle_message(&caller, message)
        } else {
            live.refuse_message(&caller, message)
        };
        if let Handled::Claimed(future) = handled {
            running.push(future);
        }
        if besides & 2 == 0 {
            poll_all(&mut running);
        }
        if besides & 4 != 0 {
            let mut spawned = std::mem::take(&mut *world.spawned.lock().expect("lock"));
            poll_all(&mut spawned);
            world.spawned.lock().expect("lock").append(&mut spawned);
        }
        if besides & 8 != 0 && !running.is_empty() {
            drop(running.swap_remove(usize::from(besides >> 4) % running.len()));
        }
        if besides == 0xF0 {
            drop(live.handle_closed(conn));
            // Nobody is there to be told to go on.
            *world.paused.lock().expect("lock") = false;
        }
    }
    drop(live.handle_closed(conn));
    assert_eq!(live.uploads(), 0);
    let stats = live.upload_stats();
    let answered = world.replies.load(Ordering::Relaxed) as u64;
    // Some are refused before they count as opened.
    let refused = stats.failed_invalid + stats.failed_too_many + stats.failed_too_large;
    assert!(answered + stats.disconnected >= stats.opened);
    assert!(answered + stats.disconnected <= stats.opened + refused + stats.failed_overloaded);
    // Nothing holds on to what is over.
    drop((running, caller, live));
    let spawned = std::mem::take(&mut *world.spawned.lock().expect("lock"));
    drop(spawned);
    assert_eq!(Arc::strong_count(&world), 1);
});
