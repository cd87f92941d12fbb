//! Prices from a background task, newest first for slow readers.
//!
//! Connect to `/ws` and send `{"rpc":"market/prices","id":"1","args":[],"stream":true}`: the reply
//! has the prices of now, and four times a second one of them changes. A reader that is behind
//! gets the newest price of each symbol rather than all of them.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use millstream_live::{App, LiveError, Merge, Module, Publisher, RegistrationErrors, Stream};
use millstream_server::{Config, Server, with_live};
use serde::{Deserialize, Serialize};

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// I/O worker threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    workers: u32,
}

#[derive(Serialize, Deserialize)]
struct Price {
    symbol: String,
    cents: u64,
}

const SYMBOLS: [&str; 3] = ["ACME", "GLOBEX", "INITECH"];
const PAUSE: Duration = Duration::from_millis(250);

/// Publishes for as long as the server runs.
async fn tick(publisher: Publisher) {
    let mut cents = [10_000_u64, 2_500, 40];
    for n in 0_usize.. {
        let at = n % SYMBOLS.len();
        // A walk that needs no randomness.
        cents[at] += [3, 0, 5, 1][n % 4];
        let price = Price {
            symbol: SYMBOLS[at].to_owned(),
            cents: cents[at],
        };
        if let Err(error) = publish(&publisher, &price) {
            tracing::warn!(%error, "a price was not published");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn publish(publisher: &Publisher, price: &Price) -> Result<(), LiveError> {
    publisher.publish("prices", "created", price).map(drop)
}

fn app() -> Result<App<(), ()>, RegistrationErrors> {
    let prices = Stream::fixed("prices")
        .merge(Merge::Crud)
        .key("symbol")
        .held()
        .coalesce_by(|price: Price| Some(price.symbol));
    App::new(())
        .module(Module::new("market").stream("prices", prices))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut config = Config::default();
    config.listen = args.listen;
    config.workers = args.workers;
    let hooks = with_live(app()?, ());
    let publisher = hooks.publisher();
    let server = Server::builder(hooks).config(config).bind().await?;
    tokio::spawn(tick(publisher));
    server.announce()?;
    server.run().await?;
    Ok(())
}
