//! Pings are answered, but not without bound to somebody who does not read.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use common::ws::{Frame, PING, Ws, frame};
use common::{start, until};
use millstream_server::{CloseInfo, Context, Hooks};
use tokio::io::AsyncWriteExt;

struct Code(Arc<AtomicU16>);

impl Hooks for Code {
    fn close(&self, _: &mut Context<'_>, info: &CloseInfo<'_>) {
        self.0.store(info.code, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn pings_are_echoed_in_order() {
    let server = start((), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    let pings: Vec<u8> = (0..1_000_u32)
        .flat_map(|n| frame(PING, &n.to_be_bytes()))
        .collect();
    ws.bytes(&pings).await;
    for n in 0..1_000_u32 {
        assert_eq!(ws.next().await, Frame::Pong(n.to_be_bytes().to_vec()));
    }
}

#[tokio::test]
async fn who_floods_and_does_not_read_is_closed() {
    let code = Arc::new(AtomicU16::new(0));
    let server = start(Code(Arc::clone(&code)), |config| {
        config.backpressure_bytes_max = 64 * 1_024;
        config.limits.control_bytes_max = 16 * 1_024;
    })
    .await;
    let mut bystander = Ws::connect(server.address).await;
    let mut ws = Ws::connect_narrow(server.address).await;
    let flood: Vec<u8> = (0..500).flat_map(|_| frame(PING, &[7; 125])).collect();
    let mut sent = 0;
    while code.load(Ordering::SeqCst) == 0 && sent < 256 * 1_024 * 1_024 {
        let write = ws.stream.write_all(&flood);
        if tokio::time::timeout(Duration::from_secs(1), write)
            .await
            .is_ok_and(|done| done.is_err())
        {
            break;
        }
        sent += flood.len();
    }
    until(async || code.load(Ordering::SeqCst) != 0).await;
    assert_eq!(code.load(Ordering::SeqCst), 1013);
    bystander.subscribe("still").await;
}
