//! The conformance suite and the tests with real JavaScript clients, each against a server that
//! is started for it and stopped afterwards.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::install;
use crate::release;
use crate::report::{Done, Outcome};
use crate::serve::Server;
use crate::workspace::{cargo, command, has, root, run, target_dir};

/// The version of the transport client that the server promises to serve unchanged.
const CLIENT: &str = "svelte-adapter-uws@0.5.1";

/// Every level of the conformance suite that has scenarios here.
pub(crate) fn conformance() -> Outcome {
    let folder = root().join("conformance");
    install::node_packages(&folder)?;
    run(command("npm")
        .args(["test", "--loglevel=error"])
        .current_dir(&folder))?;
    let server = Server::start(&release::binary("conformance")?, &["--workers", "2"])?;
    let url = format!("ws://{}/ws", server.address());
    run(command("node")
        .args(["run.mjs", "--url", &url])
        .current_dir(&folder))?;
    server.stop()
}

/// Frames as the published client sends them, against the `millstream` binary: subscribe, lose
/// the connection, resume; then a killed and restarted server.
pub(crate) fn frames() -> Outcome {
    transport(&["--client", "frames"])
}

/// The same story with the unmodified published client, where a registry offers it.
pub(crate) fn published_client() -> Outcome {
    match client_folder() {
        Ok(folder) => transport(&["--client", &folder.to_string_lossy()]),
        Err(why) => Ok(Done::Skipped(format!(
            "{CLIENT} cannot be installed here: {why}"
        ))),
    }
}

/// The built-in page's surroundings in a headless browser.
pub(crate) fn browser() -> Outcome {
    let folder = root().join("clients/browser-test");
    let server = Server::start(&release::binary("millstream")?, &[])?;
    let url = format!("http://{}/", server.address());
    run(command("node")
        .args(["test.mjs", "--url", &url])
        .current_dir(&folder))?;
    server.stop()
}

/// Random cases against the merge rules of the published svelte-realtime client.
pub(crate) fn merge_diff() -> Outcome {
    let folder = root().join("clients/merge-diff");
    install::node_packages(&folder)?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--example", "vectors"]);
    run(build.args(["--package", "millstream-merge"]))?;
    let driver = target_dir().join("debug/examples/vectors");
    run(command("npm")
        .args(["test", "--loglevel=error"])
        .env("MERGE_DRIVER", driver)
        .current_dir(&folder))
}

/// Our TypeScript transport client: its own tests, the recorded sessions of svelte-realtime, a
/// browser.
pub(crate) fn typescript() -> Outcome {
    let folder = root().join("clients/ts");
    install::node_packages(&folder)?;
    run(command("npm")
        .args(["test", "--loglevel=error"])
        .env("CHROMIUM", chromium()?)
        .current_dir(&folder))
}

/// The same client against the `millstream` binary.
pub(crate) fn typescript_server() -> Outcome {
    let folder = root().join("clients/ts");
    install::node_packages(&folder)?;
    run(command("npm")
        .args(["run", "test:server", "--loglevel=error"])
        .env("MILLSTREAM_BIN", release::binary("millstream")?)
        .current_dir(&folder))
}

/// The published svelte-realtime on that client, in Node and in a browser, against the conformance
/// application. The tests start it, kill it and start it again.
pub(crate) fn svelte_realtime() -> Outcome {
    let folder = root().join("clients/ts");
    install::node_packages(&folder)?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked"]);
    run(build.args(["--package", "conformance"]))?;
    run(command("npm")
        .args(["run", "test:app", "--loglevel=error"])
        .env("CONFORMANCE_BIN", target_dir().join("debug/conformance"))
        .env("CHROMIUM", chromium()?)
        .current_dir(&folder))
}

/// The browser, which these tests would do without if nobody named one.
fn chromium() -> Result<OsString, String> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Ok(named);
    }
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|program| has(program))
        .map(OsString::from)
        .ok_or_else(|| "no Chromium: name one with CHROMIUM".into())
}

fn transport(client: &[&str]) -> Outcome {
    let folder = root().join("clients/transport-test");
    install::node_packages(&folder)?;
    let binary = release::binary("millstream")?;
    // This test kills and restarts its server, so it starts it itself.
    let mut node = command("node");
    node.arg("test.mjs")
        .arg("--server")
        .arg(&binary)
        .args(client);
    run(node.current_dir(&folder))
}

/// The folder of the unmodified client: `TRANSPORT_CLIENT_DIR`, or installed below `target/`.
fn client_folder() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("TRANSPORT_CLIENT_DIR") {
        return Ok(root().join(given));
    }
    let prefix = target_dir().join("js-client");
    let name = CLIENT.split('@').next().unwrap_or(CLIENT);
    let folder = prefix.join("node_modules").join(name);
    if installed_version(&folder).is_some_and(|version| CLIENT.ends_with(&version)) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&prefix).map_err(|error| error.to_string())?;
    let mut npm = command("npm");
    npm.args([
        "install",
        "--no-save",
        "--no-package-lock",
        "--ignore-scripts",
        "--loglevel=error",
    ])
    .args(["--legacy-peer-deps", "--no-audit", "--no-fund", "--prefix"])
    .arg(&prefix)
    .arg(CLIENT);
    run(&mut npm)?;
    Ok(folder)
}

fn installed_version(folder: &Path) -> Option<String> {
    let manifest = std::fs::read_to_string(folder.join("package.json")).ok()?;
    let line = manifest
        .lines()
        .find(|line| line.trim_start().starts_with("\"version\""))?;
    Some(line.split('"').nth(3)?.to_owned())
}
