//! Runs fuzz targets for a while.

use crate::report::{Outcome, Report};
use crate::workspace::{cargo, command, root, run};

/// Runs one target, or all that `fuzz/Cargo.toml` names, for `seconds` each.
pub(crate) fn run_targets(report: &mut Report, seconds: u32, only: Option<&str>) {
    let manifest = match std::fs::read_to_string(root().join("fuzz/Cargo.toml")) {
        Ok(manifest) => manifest,
        Err(error) => {
            report.step("fuzz", || Err(format!("fuzz/Cargo.toml: {error}")));
            return;
        }
    };
    let targets: Vec<String> = targets(&manifest)
        .filter(|name| only.is_none_or(|only| only == name))
        .collect();
    if targets.is_empty() {
        let which = only.unwrap_or("any");
        report.step("fuzz", || {
            Err(format!("fuzz/Cargo.toml has no target ({which})"))
        });
    }
    for name in targets {
        report.step(&format!("fuzz {name}"), || {
            run(command("bash").args(["fuzz/run.sh", &name, &seconds.to_string()]))
        });
    }
}

/// Runs the convergence test of calls and streams with many seeds.
pub(crate) fn converge(seeds: u32) -> Outcome {
    let arguments = "test --profile unchecked --package millstream-live --test convergence";
    let mut test = cargo();
    test.args(arguments.split(' '));
    run(test.env("MILLSTREAM_SEEDS", seeds.to_string()))
}

/// Names in the `[[bin]]` tables.
fn targets(manifest: &str) -> impl Iterator<Item = String> {
    manifest.split("[[bin]]").skip(1).filter_map(|table| {
        let line = table
            .lines()
            .find(|line| line.trim_start().starts_with("name"))?;
        Some(line.split('"').nth(1)?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_are_the_bins_of_the_manifest() {
        let manifest = "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"frames\"\npath = \"a.rs\"\n\n\
                        [[bin]]\npath = \"b.rs\"\nname = \"hub\"\n";
        assert_eq!(
            super::targets(manifest).collect::<Vec<_>>(),
            ["frames", "hub"]
        );
    }
}
