//! Brings in what the tests need and the machine lacks: a few Debian packages, node modules.

use std::path::Path;

use crate::report::{Done, Outcome};
use crate::workspace::{command, has, run};

/// A program that a test starts, and the Debian packages that bring it.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) packages: &'static [&'static str],
    pub(crate) purpose: &'static str,
}

/// Runs the conformance suite and the JavaScript client tests.
pub(crate) const NODE: Tool = Tool {
    program: "node",
    packages: &["nodejs", "npm"],
    purpose: "JavaScript tests",
};
/// Installs what those tests depend on.
pub(crate) const NPM: Tool = Tool {
    program: "npm",
    packages: &["npm"],
    purpose: "packages of the JavaScript tests",
};
/// Counts instructions for the benchmarks.
pub(crate) const VALGRIND: Tool = Tool {
    program: "valgrind",
    packages: &["valgrind"],
    purpose: "instruction counts",
};
/// Opens the built-in page as a person's browser would.
pub(crate) const CHROMIUM: Tool = Tool {
    program: "chromedriver",
    packages: &["chromium", "chromium-driver"],
    purpose: "the browser test",
};

/// Installs the missing ones among `tools` with apt-get.
pub(crate) fn tools(tools: &[Tool]) -> Outcome {
    let missing: Vec<Tool> = tools
        .iter()
        .copied()
        .filter(|tool| !has(tool.program))
        .collect();
    if missing.is_empty() {
        return Ok(Done::Passed);
    }
    for tool in &missing {
        println!("{} is missing (for {})", tool.program, tool.purpose);
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|tool| tool.packages)
        .copied()
        .collect();
    apt_get(&packages)?;
    match missing.iter().find(|tool| !has(tool.program)) {
        None => Ok(Done::Passed),
        Some(tool) => Err(format!(
            "{} is still missing after the installation",
            tool.program
        )),
    }
}

/// `npm ci` in a folder of the repository, unless its packages are there and up to date.
pub(crate) fn node_packages(folder: &Path) -> Outcome {
    let modified = |name: &str| {
        folder
            .join(name)
            .metadata()
            .and_then(|data| data.modified())
    };
    if let (Ok(have), Ok(want)) = (
        modified("node_modules/.package-lock.json"),
        modified("package-lock.json"),
    ) && have >= want
    {
        return Ok(Done::Passed);
    }
    run(command("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(folder))
}

fn apt_get(packages: &[&str]) -> Result<(), String> {
    let names = packages.join(" ");
    if !has("apt-get") {
        return Err(format!("please install: {names} (no apt-get here)"));
    }
    let with_root: &[&str] = if is_root() {
        &[]
    } else if has("sudo") {
        &["sudo", "-n"]
    } else {
        return Err(format!(
            "please install: {names} (neither root nor sudo here)"
        ));
    };
    let apt = |arguments: &[&str]| {
        let words: Vec<&str> = with_root
            .iter()
            .copied()
            .chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .chain(arguments.iter().copied())
            .collect();
        run(command(words[0]).args(&words[1..]))
    };
    // An old package list is the usual reason for a failed installation; a failed update is not
    // fatal by itself, because the list may be good enough.
    if let Err(problem) = apt(&["update", "-qq"]) {
        println!("{problem} (going on with the package list as it is)");
    }
    let mut install = vec!["install", "-qq", "-y", "--no-install-recommends"];
    install.extend_from_slice(packages);
    apt(&install).map(drop)
}

fn is_root() -> bool {
    // The owner of our own process, without a dependency on libc.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}
