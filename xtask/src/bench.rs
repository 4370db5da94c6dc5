//! `cargo xtask bench`: build what is measured, then measure it beside containerd.

use crate::{
    build, machine,
    process::{self, cargo, step},
};

/// Runs the comparison and prints it as Markdown.
pub(crate) fn run() -> anyhow::Result<()> {
    machine::require_root("the comparison with containerd")?;
    step("packages", || {
        machine::ensure(machine::DEMO)?;
        machine::ensure(machine::TEST)
    })?;
    let programs = step("build the daemon and the shim", || build::all(build::Profile::Release))?;
    step("build the benchmarks", || {
        process::run(&mut cargo(&["build", "--quiet", "--release", "-p", "corten-benches"]))
    })?;
    process::run(
        cargo(&["run", "--quiet", "--release", "-p", "corten-benches"])
            .env("CORTEN_TEST_DAEMON", &programs.daemon)
            .env("CORTEN_TEST_SHIM", &programs.shim),
    )
}
