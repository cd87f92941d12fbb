//! The settings that the conformance suite expects.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use millstream_server::Config;

/// Topics that clients may ask for by control frame; the subscribe hook decides about each.
const OPEN_TOPICS: &[&str] = &[
    "open:*",
    "denied:*",
    "reason:*",
    "emptyreason:*",
    "throws:*",
    "slow:*",
    "slowdeny:*",
    "login:*",
    "flip:*",
    "pres:*",
    "rp:*",
];

pub(crate) fn config(listen: SocketAddr, workers: u32) -> Config {
    let mut config = Config::default();
    config.listen = listen;
    config.workers = workers;
    config.address_header = Some(HeaderName::from_static("x-forwarded-for"));
    config.xff_depth = 1;
    config.upgrade_rate_limit = 10;
    config.upgrade_rate_window = Duration::from_secs(4);
    config.upgrade_concurrent_max = 12;
    config.upgrade_timeout = Duration::from_secs(2);
    config.message_bytes_max = 65_536;
    config.backpressure_bytes_max = 262_144;
    config.idle_timeout = Duration::from_secs(12);
    config.keepalive_after = Duration::from_secs(10);
    config.open_topics = Some(
        OPEN_TOPICS
            .iter()
            .map(|&pattern| pattern.to_owned())
            .collect(),
    );
    // Nobody balances load in front of a test server.
    config.drain_spread = Duration::ZERO;
    config
}
