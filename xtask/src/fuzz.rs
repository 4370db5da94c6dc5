//! `cargo xtask fuzz`: the fuzz target of `diff` for some time, led by what it covers.
//!
//! It needs libFuzzer, which the crate `libfuzzer-sys` compiles with a C++ compiler, and counters in our code, which the stable
//! compiler puts there when its passes are named: neither nightly nor cargo-fuzz.

use std::{fs, process::Command};

use anyhow::Context;

use crate::{
    build, machine,
    process::{self, cargo, step, workspace},
};

/// How long, if nothing is said.
const SECONDS: u64 = 300;

/// What `cargo fuzz` gives the compiler, without the sanitizers.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Fuzzes for `words` seconds. What it learns stays in the target folder, and what breaks it is named there.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let seconds = match words {
        [] => SECONDS,
        [seconds] => seconds.parse().with_context(|| format!("{seconds:?} is no number of seconds"))?,
        _ => anyhow::bail!("usage: cargo xtask fuzz [SECONDS]"),
    };
    machine::require_root("fuzzing what owners and devices are given")?;
    let folder = build::target()?.join("fuzz");
    let triple = build::host_triple()?;
    step("build the fuzz target", || {
        // For a named target the flags are not those of build scripts.
        let arguments =
            ["build", "--release", "--manifest-path", "diff/fuzz/Cargo.toml", "--target", &triple];
        process::run(cargo(&arguments).env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder))
    })?;
    let learned = folder.join("corpus");
    fs::create_dir_all(&learned)?;
    let program = folder.join(triple).join("release/layer");
    step(&format!("fuzz for {seconds} seconds"), || {
        process::run(
            Command::new(&program)
                .current_dir(&folder)
                .arg(&learned)
                .arg(workspace().join("diff/fuzz/corpus/layer"))
                .arg(format!("-max_total_time={seconds}"))
                .args(["-max_len=16384", "-rss_limit_mb=1024", "-timeout=20", "-print_final_stats=1"]),
        )
        .with_context(|| format!("what broke it lies in {}", folder.display()))
    })
}
