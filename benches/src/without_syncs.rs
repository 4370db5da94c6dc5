//! Becomes another program, whose syncs the kernel answers without doing anything.
//!
//! This is how the cost of durability is measured without a switch in what is measured: a seccomp filter works the same for
//! either daemon, linked in whatever way.

use std::{collections::BTreeMap, ffi::OsString, os::unix::process::CommandExt, process::Command};

use anyhow::Context;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// fsync, fdatasync, sync, syncfs, sync_file_range and msync, by architecture.
#[cfg(target_arch = "x86_64")]
const SYNCS: [i64; 6] = [74, 75, 162, 306, 277, 26];
#[cfg(target_arch = "aarch64")]
const SYNCS: [i64; 6] = [82, 83, 81, 267, 84, 227];

/// Does not return where it works.
pub(crate) fn become_program(words: &[OsString]) -> anyhow::Result<()> {
    let (program, arguments) = words.split_first().context("without-syncs needs a program")?;
    let rules = BTreeMap::from_iter(SYNCS.map(|call| (call, Vec::new())));
    let answered = SeccompAction::Errno(0);
    let architecture = std::env::consts::ARCH.try_into().context("a known architecture")?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answered, architecture)?;
    let program_code: BpfProgram = filter.try_into().context("compile the filter")?;
    seccompiler::apply_filter(&program_code).context("install the filter")?;
    Err(Command::new(program).args(arguments).exec()).context("start the program")
}
