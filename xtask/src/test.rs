//! `cargo xtask test`: everything that CI runs, in the order that finds mistakes soonest.

use std::process::{Command, Stdio};

use crate::{
    build, check, machine, package,
    process::{self, cargo, step},
};

/// Installs, checks, builds and tests. The last lines are the test runner's own summary.
pub(crate) fn run() -> anyhow::Result<()> {
    machine::require_root("the test suite")?;
    step("packages", || {
        machine::ensure(machine::DEMO)?;
        machine::ensure(machine::TEST)
    })?;
    check::run()?;
    package::from_packages()?;
    let programs = step("build the daemon and the shim", || build::all(build::Profile::Dev))?;
    let with_programs = |command: &mut Command| {
        command
            .env("CORTEN_TEST_ROOT", "1")
            .env("CORTEN_TEST_DAEMON", &programs.daemon)
            .env("CORTEN_TEST_SHIM", &programs.shim);
    };
    step("build the tests", || {
        process::run(&mut cargo(&["test", "--quiet", "--workspace", "--all-features", "--no-run"]))
    })?;
    step("examples in the documentation", || {
        let mut command = cargo(&["test", "--quiet", "--workspace", "--all-features", "--doc"]);
        with_programs(&mut command);
        process::run(&mut command)
    })?;
    let mut command = if has_nextest() {
        cargo(&["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"])
    } else {
        cargo(&["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--no-fail-fast"])
    };
    with_programs(&mut command);
    process::run(&mut command)
}

fn has_nextest() -> bool {
    Command::new("cargo")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
