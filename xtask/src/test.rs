//! The one test command.

use std::process::Stdio;

use crate::install;
use crate::node;
use crate::release;
use crate::report::{Done, Outcome, Report};
use crate::workspace::{self, cargo, has, pure_crates};

type Step = (&'static str, fn() -> Outcome);

const FAST: &[Step] = &[
    ("workspace tests", everything),
    ("documentation tests", documentation),
];

/// Vectors and hostile clients are cargo tests, so the first steps hold them.
const FULL: &[Step] = &[
    ("workspace tests", everything),
    ("documentation tests", documentation),
    ("release build", release::build),
    (
        "pure crates without debug assertions",
        without_debug_assertions,
    ),
    ("vector drivers", drivers),
    ("merge against the published client", node::merge_diff),
    ("conformance", node::conformance),
    ("client frames, restart", node::frames),
    ("published client", node::published_client),
    ("browser", node::browser),
    ("TypeScript client", node::typescript),
    ("TypeScript client, real server", node::typescript_server),
    ("svelte-realtime, real server", node::svelte_realtime),
];

/// Runs the steps, or those whose name contains `only`.
pub(crate) fn run(report: &mut Report, fast: bool, only: Option<&str>) {
    if !fast {
        // Whatever is missing in spite of this makes its own step fail, with its name.
        report.step("install what the tests need", install_all);
    }
    let steps = if fast { FAST } else { FULL };
    for (name, work) in steps {
        if only.is_none_or(|part| name.contains(part)) {
            report.step(name, work);
        }
    }
}

fn install_all() -> Outcome {
    install::tools(&[install::NODE, install::NPM, install::CHROMIUM])
}

fn everything() -> Outcome {
    // cargo-nextest runs each test in its own process and is quicker; plain cargo does as well.
    if has("cargo-nextest") {
        workspace::run(cargo().args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
        ]))
    } else {
        workspace::run(
            cargo()
                .args(["test", "--workspace", "--locked", "--no-fail-fast"])
                .args(["--lib", "--bins", "--tests"]),
        )
    }
}

fn documentation() -> Outcome {
    workspace::run(cargo().args(["test", "--workspace", "--locked", "--doc"]))
}

/// What ships has no debug assertions, so the tests must pass without them too.
fn without_debug_assertions() -> Outcome {
    let mut test = cargo();
    test.args(["test", "--profile", "unchecked", "--locked"]);
    test.args(["--lib", "--tests"]);
    for name in pure_crates()? {
        test.args(["--package", &format!("millstream-{name}")]);
    }
    workspace::run(&mut test)
}

/// Starts the vector driver of each engine, one after the other: they share a file name.
fn drivers() -> Outcome {
    for name in pure_crates()? {
        let source = workspace::root().join(format!("crates/{name}/examples/vectors.rs"));
        if source.exists() {
            let package = format!("millstream-{name}");
            let mut driver = cargo();
            driver.args(["run", "--quiet", "--locked", "--example", "vectors"]);
            driver.args(["--package", &package]).stdin(Stdio::null());
            workspace::run(&mut driver)?;
        }
    }
    Ok(Done::Passed)
}
