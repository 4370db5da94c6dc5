//! What must hold before tests are worth running.

use crate::{
    generate, layers,
    process::{self, cargo, step},
};

/// Formatting, layers, generated code, lints.
pub(crate) fn run() -> anyhow::Result<()> {
    step("formatting", || process::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("layers of the map", layers::check)?;
    step("generated code is current", generate::check)?;
    step("lints", || {
        process::run(&mut cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]))
    })
}
