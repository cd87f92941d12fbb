//! Hundreds of connections that come and go abruptly, while another one keeps being served.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::ws::{TEXT, Ws, frame};
use common::{metric, start, until, upgrade};
use millstream_server::{CloseInfo, Context, Hooks, Message};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    closed: AtomicUsize,
}

struct Echo(Arc<Counts>);

impl Hooks for Echo {
    fn open(&self, _: &mut Context<'_>) {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        if let Message::Text(text) = message {
            cx.send_text(text);
        }
    }

    fn close(&self, _: &mut Context<'_>, _: &CloseInfo<'_>) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Comes with everything in one packet, and goes in one of four ways.
async fn visit(address: std::net::SocketAddr, how: usize) {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    if how == 3 {
        stream.set_zero_linger().expect("linger"); // a reset instead of an orderly end
    }
    let head = upgrade("/ws", "Origin: http://localhost").replace('\n', "\r\n") + "\r\n\r\n";
    let mut bytes = head.into_bytes();
    bytes.extend(frame(
        TEXT,
        br#"{"type":"subscribe","topic":"storm","ref":1}"#,
    ));
    if how == 1 {
        bytes.extend(common::ws::close_frame(1000));
    }
    let _ = stream.write_all(&bytes).await;
    if how == 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_at_a_time_disturb_nobody_and_leave_nothing() {
    let counts = Arc::new(Counts::default());
    let server = start(Echo(Arc::clone(&counts)), |config| config.workers = 2).await;
    let address = server.address;
    let mut steady = Ws::connect(address).await;
    steady.subscribe("steady").await;
    until(async || metric(address, "millstream_subscriptions").await == 1).await;
    let storm = tokio::spawn(async move {
        for _ in 0..3 {
            let visits: Vec<_> = (0..500)
                .map(|n| tokio::spawn(visit(address, n % 4)))
                .collect();
            for visit in visits {
                visit.await.expect("ends");
            }
        }
    });
    let mut echoed = 0;
    while !storm.is_finished() || echoed < 20 {
        let text = format!("still here {echoed}");
        steady.say(&text).await;
        assert_eq!(steady.text().await, text);
        echoed += 1;
    }
    storm.await.expect("ends");
    // Upgrades that were under way when their client left may still come through.
    let opened = || counts.opened.load(Ordering::SeqCst);
    until(async || {
        let before = opened();
        tokio::time::sleep(Duration::from_millis(100)).await;
        metric(address, "millstream_connections").await == 1 && opened() == before
    })
    .await;
    until(async || metric(address, "millstream_subscriptions").await == 1).await;
    assert_eq!(
        counts.closed.load(Ordering::SeqCst) + 1,
        opened(),
        "each end is told once"
    );
    assert!(
        opened() > 500,
        "{} of 1,500 got as far as a connection",
        opened()
    );
}
