//! Reads the source tree and refuses what reviewers should not have to look for.

use std::path::Path;

use crate::report::{Done, Outcome};
use crate::workspace::{command, folders, read, root};

const COLUMNS_MAX: usize = 100;
/// Lines of a Rust file above its tests; more is a warning, not a failure.
const LINES_BEFORE_TESTS_MAX: usize = 800;
/// Marks of unfinished work, spelt so that this file passes its own check.
const BANNED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Files that we did not write, or whose bytes are the point.
const DATA: &[&str] = &[
    "vectors/",
    "/seeds/",
    "/regressions/",
    "/fixtures/",
    "LICENSE-",
    "package-lock.json",
];
const TEXT: &[&str] = &[
    "rs", "toml", "md", "mjs", "js", "ts", "json", "html", "css", "sh", "yml", "yaml", "run",
];
const CODE: &[&str] = &[
    "rs", "toml", "mjs", "js", "ts", "html", "css", "sh", "yml", "yaml", "run",
];

/// Checks every file that git knows or would add.
pub(crate) fn check() -> Outcome {
    let listing = read(command("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut problems = Vec::new();
    let mut count = 0;
    for name in listing.split('\0').filter(|name| is_ours(name)) {
        // A file that is listed and gone was deleted and not committed yet.
        let Ok(bytes) = std::fs::read(root().join(name)) else {
            continue;
        };
        count += 1;
        match String::from_utf8(bytes) {
            Ok(text) => problems.extend(file(name, &text)),
            Err(_) => problems.push(format!("{name}: not UTF-8")),
        }
    }
    for name in folders("crates")? {
        if !root()
            .join("crates")
            .join(&name)
            .join("README.md")
            .is_file()
        {
            problems.push(format!("crates/{name}: no README.md"));
        }
    }
    println!("{count} files read");
    if problems.is_empty() {
        Ok(Done::Passed)
    } else {
        Err(problems.join("\n"))
    }
}

fn is_ours(name: &str) -> bool {
    !DATA.iter().any(|part| name.contains(part)) && kind(name).is_some_and(|k| TEXT.contains(&k))
}

/// The extension, or the whole name of a file without one.
fn kind(name: &str) -> Option<&str> {
    let path = Path::new(name);
    path.extension().or_else(|| path.file_name())?.to_str()
}

fn file(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let is_rust = name.ends_with(".rs");
    let is_code = kind(name).is_some_and(|kind| CODE.contains(&kind));
    for (at, line) in text.lines().enumerate() {
        let mut problem = |what: &str| problems.push(format!("{name}:{}: {what}", at + 1));
        if line.ends_with([' ', '\t']) {
            problem("blanks at the end of the line");
        }
        if let Some(odd) = line.chars().find(|&c| is_odd(c)) {
            problem(&format!("control character {odd:?}"));
        }
        if is_code && let Some(word) = BANNED.iter().find(|word| has_word(line, word)) {
            problem(&format!("{word}: finish it or file an issue"));
        }
        if is_rust && line.chars().count() > COLUMNS_MAX && !line.contains("://") {
            problem(&format!("more than {COLUMNS_MAX} columns"));
        }
        if is_rust && uses_unsafe(line) {
            problem("unsafe code");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        problems.push(format!("{name}: no newline at the end"));
    }
    if is_rust {
        problems.extend(
            allows_without_reason(text)
                .map(|at| format!("{name}:{at}: allow or expect without a reason")),
        );
        let lines = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count();
        if lines > LINES_BEFORE_TESTS_MAX {
            println!("warning: {name}: {lines} lines before its tests");
        }
    }
    problems
}

/// Control characters, and those that make text read differently from what it is.
fn is_odd(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether `word` stands in `line` with no letter, digit or underscore next to it.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins))
}

fn uses_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    ["{", "fn ", "impl ", "impl<", "trait ", "extern "]
        .iter()
        .any(|next| {
            let words = [concat!("un", "safe "), next].concat();
            code.contains(words.trim_end())
        })
}

/// Line numbers of lint exceptions that do not say why.
fn allows_without_reason(text: &str) -> impl Iterator<Item = usize> {
    let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    starts.into_iter().flat_map(move |start| {
        text.match_indices(start).filter_map(move |(at, _)| {
            let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let is_code = text[line_start..at].trim().is_empty();
            let attribute = text[at..].split("]\n").next().unwrap_or_default();
            (is_code && !attribute.contains("reason ="))
                .then(|| text[..at].matches('\n').count() + 1)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_files_pass() {
        assert!(
            file(
                "a.rs",
                "//! Fine.\n\n#![allow(dead_code, reason = \"a test\")]\n"
            )
            .is_empty()
        );
        assert!(file("a.md", "See the list of to-dos.\n").is_empty());
        assert!(file("a.mjs", "\tindented();\n").is_empty());
    }

    #[test]
    fn each_fault_is_found() {
        let faults = [
            format!("// {}\n", BANNED[0]),
            "let a = 1; \n".into(),
            "let a = 1;".into(),
            "let a = \"\u{1}\";\r\n".into(),
            "// \u{202e}\n".into(),
            format!("// {}\n", "x".repeat(COLUMNS_MAX)),
            format!("{} {{ f() }}\n", concat!("un", "safe")),
            "#[allow(dead_code)]\nfn a() {}\n".into(),
            "#[expect(\n    dead_code\n)]\nfn a() {}\n".into(),
        ];
        for text in faults {
            assert_eq!(file("a.rs", &text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn long_addresses_and_lint_names_are_no_faults() {
        assert!(file("a.rs", &format!("// https://{}\n", "x".repeat(200))).is_empty());
        assert!(file("a.rs", "#![forbid(unsafe_code)] // no unsafe here\n").is_empty());
        assert!(!has_word(&format!("a{}b", BANNED[2]), BANNED[2]));
    }

    #[test]
    fn data_is_left_alone() {
        assert!(!is_ours("vectors/transport-frames.json"));
        assert!(!is_ours("crates/server/assets/logo.png"));
        assert!(is_ours(".ci/run"));
    }
}
