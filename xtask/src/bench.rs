//! A quick run of every benchmark, to know that it still runs; its figures mean nothing.

use std::path::Path;

use crate::install;
use crate::report::{Done, Outcome, Report};
use crate::workspace::{cargo, has, root, run};

/// A bench that hangs is a failure, not an endless run.
const SECONDS_MAX: &str = "60";
/// Under valgrind each function runs about fifty times slower, and is started anew.
const COUNTING_SECONDS_MAX: &str = "90";

/// Runs each `[[bench]]` of `benches/Cargo.toml` once.
pub(crate) fn smoke(report: &mut Report) {
    let path = root().join("benches/Cargo.toml");
    let benches: Vec<Bench> = match std::fs::read_to_string(&path) {
        Ok(manifest) => benches(&manifest).collect(),
        Err(error) => {
            report.step("benches", || Err(format!("{}: {error}", path.display())));
            return;
        }
    };
    if benches.is_empty() {
        report.step("benches", || {
            Ok(Done::Skipped("benches/Cargo.toml names none yet".into()))
        });
        return;
    }
    if !report.step("build benches", build) {
        return;
    }
    for bench in benches {
        report.step(&format!("bench {}", bench.name), || bench.smoke());
    }
}

fn build() -> Outcome {
    run(cargo().args([
        "bench",
        "--locked",
        "--package",
        "millstream-benches",
        "--no-run",
    ]))
}

struct Bench {
    name: String,
    /// Counts instructions under valgrind instead of measuring time.
    counts: bool,
    /// Has functions at several sizes, named `hundred`, `ten_thousand` and `million`. The small one
    /// is enough to know that it runs; making a million takes minutes under valgrind.
    sized: bool,
}

impl Bench {
    fn smoke(&self) -> Outcome {
        let mut bench = cargo();
        bench.args(["bench", "--locked", "--package", "millstream-benches"]);
        bench.args(["--bench", &self.name]);
        if self.counts {
            if !has("gungraun-runner") {
                let why = "gungraun-runner is not installed (benches/README.md says how)";
                return Ok(Done::Skipped(why.into()));
            }
            install::tools(&[install::VALGRIND])?;
            if self.sized {
                bench.args(["--", "*hundred*"]);
            }
        } else {
            // Criterion's test mode runs each measured closure once.
            bench.args(["--", "--test"]);
        }
        let limit = if self.counts {
            COUNTING_SECONDS_MAX
        } else {
            SECONDS_MAX
        };
        run(within(limit, &mut bench))
    }
}

/// The same command under coreutils' `timeout`. What it runs is built already.
fn within<'a>(limit: &str, bench: &'a mut std::process::Command) -> &'a mut std::process::Command {
    let mut limited = crate::workspace::command("timeout");
    limited
        .args(["--kill-after=5", limit])
        .arg(bench.get_program())
        .args(bench.get_args());
    *bench = limited;
    bench
}

/// The `[[bench]]` tables. A bench whose file names gungraun counts instructions.
fn benches(manifest: &str) -> impl Iterator<Item = Bench> {
    manifest.split("[[bench]]").skip(1).filter_map(|table| {
        let line = table
            .lines()
            .find(|line| line.trim_start().starts_with("name"))?;
        let name = line.split('"').nth(1)?.to_owned();
        let folder = root().join("benches/benches");
        let source = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        let text = source(&folder.join(format!("{name}.rs")));
        Some(Bench {
            counts: text.contains("gungraun"),
            sized: text.contains("bench::hundred("),
            name,
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn benches_are_the_tables_of_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[[bench]]\nname = \"decode\"\nharness = false\n";
        let names: Vec<String> = super::benches(manifest).map(|bench| bench.name).collect();
        assert_eq!(names, ["decode"]);
    }
}
