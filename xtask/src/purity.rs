//! The proof that everything below the server is pure logic: no crate there may reach a socket,
//! a runtime or a system-call crate through its normal dependencies.

use crate::report::{Done, Outcome};
use crate::workspace::{cargo, pure_crates, read};

/// Crates that open sockets, run tasks or call the system for I/O. A dependency on any of them
/// makes a crate unfit to run without an operating system beneath it.
const IMPURE: &[&str] = &[
    "async-io",
    "async-std",
    "fastwebsockets",
    "futures-timer",
    "hyper",
    "hyper-util",
    "io-uring",
    "mio",
    "net2",
    "nix",
    "polling",
    "quinn",
    "reqwest",
    "rustix",
    "rustls",
    "signal-hook",
    "smol",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tokio-tungstenite",
    "tokio-util",
    "tungstenite",
    "ureq",
];

/// `libc` itself is allowed: `parking_lot_core`, `getrandom` and `memchr` reach it for futexes and
/// entropy. Whoever else depends on it is worth a look, so those are named here.
const LIBC_USERS: &[&str] = &["getrandom", "parking_lot_core", "simd-json", "memchr"];

/// Checks every crate in `crates/` but the server.
pub(crate) fn check() -> Outcome {
    let mut offenders = Vec::new();
    for name in pure_crates()? {
        let package = format!("millstream-{name}");
        let tree = read(cargo().args([
            "tree",
            "--package",
            &package,
            "--edges",
            "normal",
            "--all-features",
            "--target",
            "all",
            "--prefix",
            "depth",
            "--format",
            " {p}",
        ]))?;
        let found = impure_paths(&tree);
        let crates = tree
            .lines()
            .filter_map(|line| parse(line).map(|(_, name)| name));
        let mut count: Vec<&str> = crates.collect();
        count.sort_unstable();
        count.dedup();
        println!("{package}: {} crates, {} impure", count.len(), found.len());
        offenders.extend(found);
    }
    if offenders.is_empty() {
        Ok(Done::Passed)
    } else {
        Err(offenders.join("\n"))
    }
}

/// For each impure crate in the tree, how it is reached: `a > b > tokio`.
fn impure_paths(tree: &str) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for (depth, name) in tree.lines().filter_map(parse) {
        path.truncate(depth);
        let parent = path.last().copied();
        path.push(name);
        let stray_libc = name == "libc" && !parent.is_some_and(|by| LIBC_USERS.contains(&by));
        if IMPURE.contains(&name) || stray_libc {
            found.push(path.join(" > "));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A line such as `2 bytes v1.12.1` as depth and name.
fn parse(line: &str) -> Option<(usize, &str)> {
    let mut words = line.split_whitespace();
    let depth = words.next()?.parse().ok()?;
    Some((depth, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impure_crate_is_named_with_the_way_to_it() {
        let tree = "0 millstream-wire v0.1.0 (/x)\n1 bytes v1.12.1\n1 odd v1.0.0\n2 mio v1.2.0\n\
                    1 memchr v2.8.0\n";
        assert_eq!(impure_paths(tree), ["millstream-wire > odd > mio"]);
    }

    #[test]
    fn libc_is_fine_below_a_lock_and_suspect_elsewhere() {
        let tree = "0 hub v0.1.0\n1 parking_lot v0.13.0\n2 parking_lot_core v0.10.0\n\
                    3 libc v0.2.1\n1 strange v1.0.0\n2 libc v0.2.1 (*)\n";
        assert_eq!(impure_paths(tree), ["hub > strange > libc"]);
    }
}
