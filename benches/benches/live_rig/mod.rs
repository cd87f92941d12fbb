//! A platform that does nothing, and calls to send through it.

use std::any::Any;
use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};
use millstream_live::{
    App, Begun, BoxFuture, Caller, Calls, Ctx, Live, LiveError, Module, Platform,
};
use millstream_wire::encode_success;

/// Takes everything and does nothing.
struct Nowhere;

impl Platform for Nowhere {
    fn publish(
        &self,
        _: &str,
        _: &str,
        _: RawJsonRef<'_>,
        _: PublishOptions,
    ) -> Result<Published, PublishError> {
        Ok(Published {
            delivered: true,
            seq: Some(1),
            queued: false,
        })
    }

    fn publish_batched(&self, _: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        Ok(Vec::new())
    }

    fn send(&self, _: ConnId, _: &str, _: &str, _: RawJson) {}

    fn release(&self, _: ConnId, _: &str, _: u64) {}

    fn subscribe(&self, _: ConnId, _: &str, _: u64) -> BoxFuture<Result<(), String>> {
        Box::pin(ready(Ok(())))
    }

    fn unsubscribe(&self, _: ConnId, _: &str, _: u64) -> BoxFuture<()> {
        Box::pin(ready(()))
    }

    fn subscribers(&self, _: &str) -> u64 {
        0
    }

    fn position(&self, _: &str) -> Option<u64> {
        None
    }

    fn since(&self, _: &str, _: u64) -> Option<History> {
        None
    }

    fn now(&self) -> Millis {
        Millis::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(pending())
    }

    fn spawn(&self, _: BoxFuture<()>) {}

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An application with calls that do next to nothing.
pub(crate) struct Rig {
    calls: Calls<(), ()>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let module = Module::new("bench")
            .call("echo", async |_: Ctx<(), ()>, value: RawJson| {
                Ok::<_, LiveError>(value)
            })
            .call("pub", async |ctx: Ctx<(), ()>, item: RawJson| {
                let options = PublishOptions::default();
                ctx.publish_raw("feed", "created", item.get(), options)?;
                Ok(true)
            })
            .call("add", async |_: Ctx<(), ()>, a: f64, b: f64| {
                Ok::<_, LiveError>(a + b)
            });
        let app = App::new(()).module(module).build().expect("it is correct");
        let key = Key {
            index: 1,
            generation: 1,
        };
        let caller = Caller {
            conn: Some(ConnId::new(0, key)),
            ..Caller::nobody()
        };
        Self {
            calls: Live::new(app, Arc::new(Nowhere)).calls(caller),
        }
    }

    /// From a frame's text to the reply in a connection's output.
    pub(crate) fn call(&mut self, frame: &str, out: &mut Vec<u8>) {
        match self.calls.begin_text(frame) {
            Begun::Answered(Some(answer)) => encode_success(out, answer.id(), answer.data()),
            other => panic!("it has an answer, at once: {other:?}"),
        }
    }
}

/// Calls as the load generator and the JavaScript client write them.
pub(crate) const ECHO: &str = concat!(
    r#"{"rpc":"bench/echo","id":"e123","args":[{"t":123456789012345,"id":77,"#,
    r#""pad":"xxxxxxxxxxxxxxxxxxxxxxx"}]}"#
);
pub(crate) const PUB: &str = concat!(
    r#"{"rpc":"bench/pub","id":"p123","args":[{"t":123456789012345,"id":77,"#,
    r#""pad":"xxxxxxxxxxxxxxxxxxxxxxx"}]}"#
);
pub(crate) const ADD: &str = r#"{"rpc":"bench/add","id":"a123","args":[1.5,2]}"#;
