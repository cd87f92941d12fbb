//! Merge scenarios from standard input, what this engine shows to standard output: see
//! `tests/common/driver.rs` for the form.

use std::process::ExitCode;

#[path = "../tests/common/driver.rs"]
mod driver;

fn main() -> ExitCode {
    millstream_vectors::drive_text(driver::observe)
}
