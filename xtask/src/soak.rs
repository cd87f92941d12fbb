//! Starts the server and the soak program against it.

use crate::release;
use crate::report::Outcome;
use crate::serve::Server;
use crate::workspace::{command, run};

/// Builds both in release form and lets the soak run to its end; it judges by itself.
pub(crate) fn run_soak(connections: u32, seconds: u32) -> Outcome {
    release::build()?;
    let server = Server::start(
        &release::binary("millstream")?,
        // One load generator stands for thousands of clients behind one address.
        &["--upgrade-rate-limit", "0"],
    )?;
    let mut soak = command(release::binary("soak")?);
    soak.args(["--address", &server.address().to_string()])
        .args(["--server-pid", &server.id().to_string()])
        .args(["--connections", &connections.to_string()])
        .args(["--seconds", &seconds.to_string()]);
    run(&mut soak)?;
    server.stop()
}
