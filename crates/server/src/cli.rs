//! The command line of the `millstream` binary and of every program that embeds the server.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Config, ConfigError, ConfigLayer};
use crate::hooks::Hooks;
use crate::logging;
use crate::server::{Server, Stopped};

/// Runs the command line with an application: parse, configure, serve until told to stop.
///
/// Exit status: 0 after an orderly stop, 1 when the machine is to blame (port taken) or the drain
/// was cut short by a second signal, 2 for wrong arguments or configuration.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     millstream_server::cli::main(())
/// }
/// ```
pub fn main(hooks: impl Hooks) -> ExitCode {
    main_with(Config::default(), hooks)
}

/// The same with an application's own defaults beneath file, environment and flags.
pub fn main_with(defaults: Config, hooks: impl Hooks) -> ExitCode {
    run(defaults, hooks, std::env::args_os())
}

/// The configuration from defaults, file, environment and the flags given, checked.
///
/// For programs that build their [`Server`] themselves. Prints help or the problems and gives the
/// exit status when there is nothing to run.
///
/// # Errors
/// The status to exit with.
pub fn configure(defaults: Config) -> Result<Config, ExitCode> {
    match parse(std::env::args_os()).and_then(|cli| effective(defaults, cli)) {
        Ok((config, Action::Serve)) => Ok(config),
        Ok((config, Action::Check)) => Err(check(&config)),
        Err(status) => Err(status),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Check,
    Serve,
}

/// A realtime server: topics, live streams and calls over WebSocket.
///
/// Without a command it serves. Bound to a loopback address, which is the default, it is in
/// development mode: every topic is open, a playground is served at `/`, and
/// `POST /api/publish` needs no key. Bound to anything else, all of this must be configured.
///
/// Values come from, in rising order of weight: defaults, the file of --config, the environment,
/// flags. Times read `10` (seconds), `250ms`, `2m`; sizes `16KiB`, `1MiB`; lists have commas.
///
/// It prints one line, `listening on http://ADDR:PORT`, when it is ready. SIGTERM or SIGINT drains
/// and stops, a second one stops at once. SIGHUP reads the TLS certificate again.
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the configuration and print it as it would be used, secrets redacted
    Check(Settings),
    /// Serve; the same as no command
    Serve(Settings),
}

#[derive(Debug, Args)]
struct Settings {
    /// TOML file with any of the settings below, named with underscores
    #[arg(
        long,
        short,
        env = "MILLSTREAM_CONFIG",
        value_name = "FILE",
        hide_env = true
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    layer: ConfigLayer,
}

fn run(
    defaults: Config,
    hooks: impl Hooks,
    arguments: impl IntoIterator<Item = OsString>,
) -> ExitCode {
    match parse(arguments).and_then(|cli| effective(defaults, cli)) {
        Ok((config, Action::Serve)) => serve(config, hooks),
        Ok((config, Action::Check)) => check(&config),
        Err(status) => status,
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let matches = documented(Cli::command()).try_get_matches_from(arguments);
    matches
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Nothing can be done when the terminal is gone.
            let _ = error.print();
            if asked {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            }
        })
}

/// Gives every flag its long help: default, variable, cost, limit and metric.
fn documented(mut command: Command) -> Command {
    let defaults = Config::default().shown_with_knobs();
    for (knob, default) in &defaults {
        let help = format!(
            "{}\n\nDefault: {default}. Environment: {}. Cost: {} At the limit: {} Seen in: {}",
            knob.purpose, knob.variable, knob.cost, knob.at_limit, knob.metric
        );
        command = command.mut_arg(knob.name, |arg| arg.long_help(help.clone()));
        for verb in ["check", "serve"] {
            let help = help.clone();
            command = command.mut_subcommand(verb, |verb| {
                verb.mut_arg(knob.name, |arg| arg.long_help(help))
            });
        }
    }
    command
}

fn effective(defaults: Config, cli: Cli) -> Result<(Config, Action), ExitCode> {
    let (action, settings) = match cli.command {
        None => (Action::Serve, cli.settings),
        Some(Verb::Serve(settings)) => (Action::Serve, settings),
        Some(Verb::Check(settings)) => (Action::Check, settings),
    };
    layered(defaults, settings)
        .map(|config| (config, action))
        .map_err(|error| {
            complain(&format!("the configuration cannot be used:\n{error}"));
            ExitCode::from(2)
        })
}

fn layered(defaults: Config, settings: Settings) -> Result<Config, ConfigError> {
    let base = match settings.config {
        Some(path) => defaults.with_file(&path)?,
        None => defaults,
    };
    let config = base.with_layer(settings.layer);
    config.validate()?;
    Ok(config)
}

fn check(config: &Config) -> ExitCode {
    let strangers = unknown_variables(std::env::vars_os().map(|(name, _)| name));
    for name in strangers {
        complain(&format!("warning: {name} is not a setting"));
    }
    match write!(io::stdout(), "{config}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(config: Config, hooks: impl Hooks) -> ExitCode {
    logging::init(&config);
    for name in unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!("the environment variable {name} is not a setting");
    }
    let threads = match config.runtime_threads as usize {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("millstream-async")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve_until_stopped(config, hooks)),
        Err(error) => {
            complain(&format!("cannot start the async runtime: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_stopped(config: Config, hooks: impl Hooks) -> ExitCode {
    let server = match Server::builder(hooks).config(config).bind().await {
        Ok(server) => server,
        Err(error) => {
            complain(&error.to_string());
            return if error.is_configuration() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            };
        }
    };
    if let Err(error) = server.announce() {
        tracing::warn!(%error, "cannot write to standard output");
    }
    match server.run().await {
        Ok(Stopped::Drained | Stopped::DeadlinePassed) => ExitCode::SUCCESS,
        Ok(Stopped::Forced) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// `MILLSTREAM_*` variables that nothing reads: most likely misspelt.
fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let knobs = Config::knobs();
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("MILLSTREAM_") && name != "MILLSTREAM_CONFIG")
        .filter(|name| knobs.iter().all(|knob| knob.variable != name))
        .collect()
}

fn complain(text: &str) {
    // Standard error may be closed; there is nowhere left to say so.
    let _ = writeln!(io::stderr(), "millstream: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<(Config, Action), ExitCode> {
        let arguments = ["millstream"].iter().chain(arguments).map(OsString::from);
        parse(arguments).and_then(|cli| effective(Config::default(), cli))
    }

    #[test]
    fn the_command_line_is_consistent() {
        documented(Cli::command()).debug_assert();
    }

    #[test]
    fn flags_work_with_and_without_a_command() {
        for arguments in [
            &["--listen", "127.0.0.1:0", "--workers", "2"][..],
            &["serve", "--listen", "127.0.0.1:0", "--workers", "2"],
        ] {
            let (config, action) = settings(arguments).expect("parses");
            assert_eq!((config.listen.port(), config.workers), (0, 2));
            assert_eq!(action, Action::Serve);
        }
        let (config, action) = settings(&["check", "--topics-max", "5"]).expect("parses");
        assert_eq!((config.limits.topics_max, action), (5, Action::Check));
    }

    #[test]
    fn every_flag_is_the_name_of_its_knob() {
        let command = documented(Cli::command());
        for knob in Config::knobs() {
            let flag = knob.name.replace('_', "-");
            let found = command
                .get_arguments()
                .find(|arg| arg.get_long() == Some(&flag));
            let arg = found.unwrap_or_else(|| panic!("no flag for {}", knob.name));
            assert_eq!(
                arg.get_env().and_then(|name| name.to_str()),
                Some(knob.variable)
            );
            let expected = format!("MILLSTREAM_{}", knob.name.to_uppercase());
            assert_eq!(knob.variable, expected);
        }
    }

    #[test]
    fn misspelt_variables_are_noticed() {
        let names = [
            "MILLSTREAM_LISTN",
            "MILLSTREAM_LISTEN",
            "MILLSTREAM_CONFIG",
            "PATH",
        ];
        let unknown = unknown_variables(names.iter().map(OsString::from));
        assert_eq!(unknown, ["MILLSTREAM_LISTN"]);
    }
}
