//! The cheapest possible protocol on top of the server, to price the transport alone.
//!
//! Text messages: `S`topic subscribes and is echoed, `P`topic newline payload publishes the
//! payload as a message of its own, `E`anything is echoed. Everything an application with a
//! protocol of its own needs: the message hook, a raw publish, raw sends.

use clap::Parser;
use millstream_hub::RawPayload;
use millstream_server::{Config, Context, Hooks, Message, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A server for measurements; not for the open network.
#[derive(Debug, Parser)]
struct Args {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: std::net::SocketAddr,
    /// I/O workers; 0 means one per core.
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

struct Plain;

impl Hooks for Plain {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        match text.split_at_checked(1) {
            Some(("S", topic)) => {
                cx.subscribe_unchecked(topic);
                cx.send_text(text);
            }
            Some(("P", rest)) => {
                if let Some((topic, payload)) = rest.split_once('\n') {
                    // A refused publish is the load generator's to notice: it counts deliveries.
                    let _ = cx.publish_raw(topic, RawPayload::Text(payload));
                }
            }
            Some(("E", _)) => {
                cx.send_text(text);
            }
            _ => {}
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut config = Config::default();
    config.listen = args.listen;
    config.workers = args.workers;
    config.upgrade_rate_limit = 0;
    config.message_bytes_max = 1024 * 1024;
    let server = Server::builder(Plain)
        .config(config)
        .raw_protocol()
        .bind()
        .await?;
    server.announce()?;
    server.run().await?;
    Ok(())
}
