//! The application that every conforming server hosts, so that one suite can drive them all.

mod around;
mod bytes;
mod ch;
mod config;
mod ctl;
mod hooks;
mod identity;
mod piped;
mod policies;
mod replay;
mod rows;
mod rpc;
mod st;
mod state;
mod val;

use std::error::Error;
use std::net::SocketAddr;

use clap::Parser;
use millstream_server::{Server, with_live};

use crate::hooks::Own;
use crate::state::Shared;

/// The conformance application.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:18090")]
    listen: SocketAddr,
    /// I/O worker threads; 0 means one per core.
    #[arg(long, value_name = "N", default_value = "2")]
    workers: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(log_filter())
        .init();
    let state = Shared::default();
    let app = around::app(Shared::clone(&state)).build()?;
    let hooks = with_live(app, Own::new(state));
    let config = config::config(arguments.listen, arguments.workers);
    let server = Server::builder(hooks).config(config).bind().await?;
    server.announce()?;
    server.run().await?;
    Ok(())
}

/// Warnings only, unless `RUST_LOG` says otherwise: scenarios fail hooks on purpose all the time.
fn log_filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into())
}
