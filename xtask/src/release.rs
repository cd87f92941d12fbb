//! What the tests need in release form.

use std::path::PathBuf;

use crate::report::Outcome;
use crate::workspace::{cargo, root, run, target_dir};

/// Builds the server and the example servers as they ship.
pub(crate) fn build() -> Outcome {
    run(cargo()
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "millstream-server",
        ])
        .args(["--package", "conformance", "--package", "soak"]))
}

/// The path of a program built by [`build`].
pub(crate) fn binary(name: &str) -> Result<PathBuf, String> {
    let path = target_dir().join("release").join(name);
    if path.is_file() {
        return Ok(path);
    }
    let shown = path.strip_prefix(root()).unwrap_or(&path);
    Err(format!("{} was not built", shown.display()))
}
