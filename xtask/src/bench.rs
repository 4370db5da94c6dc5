//! `cargo xtask bench`: build what is measured, then measure it beside the newest containerd that Debian has.

use std::fs;

use anyhow::bail;

use crate::{
    build, containerd, machine,
    process::{self, cargo, step, workspace},
};

const SUITES: [&str; 3] = ["start", "storage", "layers"];

/// Runs one suite or all. A whole run is written into `docs/benchmarks.md`; `--quick` and `--only` are printed.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (suites, options) = match words.split_first() {
        Some((&"crates", options)) => return crates(options),
        Some((&"all", options)) => (SUITES.to_vec(), options),
        Some((suite, options)) if SUITES.contains(suite) => (vec![*suite], options),
        _ => bail!(
            "cargo xtask bench all|start|storage|layers|crates [--quick] [--only NAME] [--repetitions N] [--on FOLDER]"
        ),
    };
    machine::require_root("the comparison with containerd")?;
    step("packages", || {
        machine::ensure(machine::DEMO)?;
        machine::ensure(machine::TEST)
    })?;
    let programs = step("build the daemon and the shim", || build::all(build::Profile::Release))?;
    step("build the benchmarks", || {
        process::run(&mut cargo(&["build", "--quiet", "--release", "-p", "corten-benches"]))
    })?;
    let cache = build::target()?.join("bench");
    fs::create_dir_all(&cache)?;
    let peer = step("Debian's newest containerd", || Ok(containerd::newest(&cache)))?;
    let is_whole = !options.iter().any(|option| ["--quick", "--only"].contains(option));
    for suite in suites {
        let mut command = cargo(&["run", "--quiet", "--release", "-p", "corten-benches", "--", suite]);
        command.args(options).arg("--cache").arg(&cache);
        if is_whole {
            command.arg("--output").arg(workspace().join("docs"));
        }
        command
            .env("CORTEN_TEST_DAEMON", &programs.daemon)
            .env("CORTEN_TEST_SHIM", &programs.shim)
            .env("CORTEN_TEST_CONTAINERD", &peer.daemon)
            .env("CORTEN_TEST_STOCK_SHIM", &peer.shim);
        step(suite, || process::run(&mut command))?;
    }
    Ok(())
}

/// Runs the benchmarks of the single crates, each for a moment only; `--full` takes the time that criterion wants.
fn crates(options: &[&str]) -> anyhow::Result<()> {
    let is_full = options.contains(&"--full");
    let mut command = cargo(&["bench", "--workspace", "--bench", "*"]);
    if !is_full {
        command.args(["--", "--quick", "--noplot"]);
    }
    process::run(&mut command)
}
