//! The project's own chores, run as `cargo xtask <command>`.
//!
//! `cargo xtask test` is the one test command: it installs what the tests need and runs
//! everything. The other commands are its neighbours in continuous integration. Nothing here is
//! needed to build or to use Millstream, and this crate depends on the standard library alone, so
//! that it builds in a second.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks through its standard output"
)]

mod bench;
mod fuzz;
mod install;
mod node;
mod purity;
mod release;
mod report;
mod serve;
mod soak;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use report::Report;

const HELP: &str = "\
usage: cargo xtask <command> [options]

  test [--fast] [--only TEXT]   install what the tests need, then run everything
                                --fast: workspace tests and doc tests only
                                --only: just the steps whose name contains TEXT
  purity                        crates below the server depend on no socket or runtime crate
  tidy                          line length, banned words, READMEs and the like
  fuzz [--seconds N] [TARGET]   each fuzz target (or one) for N seconds, 10 by default
  converge [--seeds N]          random runs of clients and servers, 5,000 by default: in the end
                                every client shows what the server holds
  bench-smoke                   each benchmark once, quickly: does it still run?
  soak [--connections N] [--seconds N]
                                9,000 connections, stalled readers, a reconnect storm";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::default();
    let known = match arguments.split_first() {
        Some((command, rest)) => run(command, rest, &mut report),
        None => Err("no command given".into()),
    };
    match known {
        Ok(()) => report.finish(),
        Err(problem) => {
            eprintln!("{problem}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Runs one command; an error means that the command line was not understood.
fn run(command: &str, rest: &[String], report: &mut Report) -> Result<(), String> {
    let mut options = Options::new(rest);
    match command {
        "test" => {
            let fast = options.flag("--fast");
            let only = options.value("--only")?;
            options.done()?;
            test::run(report, fast, only.as_deref());
        }
        "purity" => {
            options.done()?;
            report.step("purity", purity::check);
        }
        "tidy" => {
            options.done()?;
            report.step("tidy", tidy::check);
        }
        "fuzz" => {
            let seconds = options.number("--seconds", 10)?;
            let target = options.positional();
            options.done()?;
            fuzz::run_targets(report, seconds, target.as_deref());
        }
        "converge" => {
            let seeds = options.number("--seeds", 5_000)?;
            options.done()?;
            report.step("converge", || fuzz::converge(seeds));
        }
        "bench-smoke" => {
            options.done()?;
            bench::smoke(report);
        }
        "soak" => {
            let connections = options.number("--connections", 9_000)?;
            let seconds = options.number("--seconds", 60)?;
            options.done()?;
            report.step("soak", || soak::run_soak(connections, seconds));
        }
        "help" | "--help" | "-h" => {
            options.done()?;
            println!("{HELP}");
        }
        other => return Err(format!("unknown command {other:?}")),
    }
    Ok(())
}

/// The arguments after the command, taken one by one so that what is left over can be refused.
struct Options {
    rest: Vec<String>,
}

impl Options {
    fn new(rest: &[String]) -> Self {
        Self {
            rest: rest.to_vec(),
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|argument| argument != name);
        self.rest.len() < before
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.rest.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        if at + 1 == self.rest.len() {
            return Err(format!("{name} needs a value"));
        }
        self.rest.remove(at);
        Ok(Some(self.rest.remove(at)))
    }

    fn number(&mut self, name: &str, default: u32) -> Result<u32, String> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("{name} {text} is not a number")),
        }
    }

    fn positional(&mut self) -> Option<String> {
        let at = self
            .rest
            .iter()
            .position(|argument| !argument.starts_with('-'))?;
        Some(self.rest.remove(at))
    }

    fn done(&self) -> Result<(), String> {
        match self.rest.first() {
            None => Ok(()),
            Some(left) => Err(format!("unknown argument {left:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options {
            rest: text.split_whitespace().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn options_are_taken_once_and_the_rest_is_refused() {
        let mut all = options("--fast --only wire more");
        assert!(all.flag("--fast"));
        assert_eq!(all.value("--only"), Ok(Some("wire".into())));
        assert_eq!(all.positional(), Some("more".into()));
        assert!(all.done().is_ok());
        assert!(options("--odd").done().is_err());
    }

    #[test]
    fn numbers_have_defaults_and_must_be_numbers() {
        assert_eq!(options("").number("--seconds", 10), Ok(10));
        assert_eq!(options("--seconds 3").number("--seconds", 10), Ok(3));
        assert!(options("--seconds x").number("--seconds", 10).is_err());
        assert!(options("--seconds").number("--seconds", 10).is_err());
    }
}
