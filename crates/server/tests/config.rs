//! Layers, errors, redaction, and a reference page that cannot go stale.

use std::process::{Command, Output};
use std::{env, fs};

use millstream_server::config::Config;

fn millstream(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_")) {
        command.env_remove(name);
    }
    command
        .envs(variables.iter().copied())
        .output()
        .expect("runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn the_reference_page_lists_every_knob_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = Config::reference();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, &page).expect("writes");
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is stale: run with UPDATE_DOCS=1"
    );
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("millstream.toml");
    fs::write(
        &file,
        "workers = 1\nxff_depth = 1\nidle_timeout = 9\n[limits]\ntopics_max = 1\n",
    )
    .expect("writes");
    let file = file.to_str().expect("path");
    let output = millstream(
        &["check", "--config", file, "--workers", "3"],
        &[("MILLSTREAM_WORKERS", "2"), ("MILLSTREAM_XFF_DEPTH", "2")],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "workers = 3",
        "xff_depth = 2",
        "idle_timeout = \"9s\"",
        "topics_max = 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.lines().any(|line| line == "path = \"/ws\""));
}

#[test]
fn what_check_prints_is_a_configuration_again() {
    let printed = stdout(&millstream(&["check"], &[]));
    let again = Config::from_toml(&printed).expect("reads back");
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.to_string(), Config::default().to_string());
}

#[test]
fn all_problems_are_printed_and_the_status_is_2() {
    let output = millstream(&["check", "--xff-depth", "0", "--idle-timeout", "5"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("xff_depth: must be at least 1"), "{text}");
    assert!(
        text.contains("idle_timeout: 5s is neither 0 nor between 8s and 960s"),
        "{text}"
    );
}

#[test]
fn unknown_keys_and_bad_values_of_a_file_are_located() {
    let error = |text: &str| Config::from_toml(text).expect_err("refused").to_string();
    let unknown = error("workers = 1\nidle_timout = 5\n");
    assert!(
        unknown.contains("line 2") && unknown.contains("idle_timout"),
        "{unknown}"
    );
    assert!(error("[limits]\nnothing = 1").contains("nothing"));
    assert!(error("workers = \"many\"").contains("`many` is not a whole number"));
    assert!(error("workers = -1").contains("-1"));
    assert!(error("path = [\"/a\"]").contains("a list is not allowed here"));
}

#[test]
fn secrets_are_never_printed() {
    let secret = "s3cr3t-s3cr3t-s3cr3t";
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("bad.toml");
    fs::write(&file, format!("api_keys = [\"{secret}\", 5]\n")).expect("writes");
    let file = file.to_str().expect("path");
    let variable = [("MILLSTREAM_API_KEYS", secret)];
    for output in [
        millstream(&["check"], &variable),
        millstream(&["--help"], &variable),
        millstream(&["check", "--workers", "x"], &variable),
        millstream(&["check", "--api-keys", &secret[..9]], &[]),
        millstream(&["check", "--config", file], &[]),
    ] {
        let text = stdout(&output) + &stderr(&output);
        assert!(!text.is_empty() && !text.contains(&secret[..9]), "{text}");
    }
    let config = Config::from_toml(&format!("api_keys = [\"{secret}\"]")).expect("reads");
    assert!(!format!("{config:?}{config}").contains("s3cr3t"));
}

#[test]
fn help_shows_defaults_and_variables() {
    let output = millstream(&["--help"], &[]);
    assert!(output.status.success());
    let text = stdout(&output);
    for part in [
        "--idle-timeout <TIME>",
        "MILLSTREAM_IDLE_TIMEOUT",
        "\"120s\"",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn a_meaningless_same_origin_refuses_to_start() {
    let output = millstream(&["--listen", "0.0.0.0:0"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("host_header"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_taken_port_is_the_machines_fault() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("address").to_string();
    let output = millstream(&["--listen", &address], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address));
    assert_eq!(
        stdout(&output),
        "",
        "nothing but the ready line on standard output"
    );
}
