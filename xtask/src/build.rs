//! Building the two programs: the daemon, and the shim in a build of its own.

use std::path::PathBuf;

use anyhow::Context;

use crate::process::{self, cargo, workspace};

/// How the daemon is built. The shim has one profile only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// The built programs.
pub(crate) struct Programs {
    pub(crate) daemon: PathBuf,
    pub(crate) shim: PathBuf,
}

/// Builds both.
pub(crate) fn all(profile: Profile) -> anyhow::Result<Programs> {
    let programs = Programs { daemon: daemon(profile)?, shim: shim()? };
    println!("    {}\n    {}", programs.daemon.display(), programs.shim.display());
    Ok(programs)
}

fn daemon(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut command = cargo(&["build", "--quiet", "-p", "corten-daemon"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    Ok(target()?.join(folder).join("cortend"))
}

/// The shim is small because nothing is relocated at its start and no other crate's features leak in: a static,
/// position-dependent program from a target folder of its own.
fn shim() -> anyhow::Result<PathBuf> {
    let folder = target()?.join("shim-build");
    let triple = host_triple()?;
    process::run(
        cargo(&["build", "--quiet", "-p", "corten-shim", "--profile", "shim", "--target", &triple])
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static"),
    )?;
    Ok(folder.join(triple).join("shim/containerd-shim-runc-v2"))
}

/// The target folder that cargo uses here.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from))
}

pub(crate) fn host_triple() -> anyhow::Result<String> {
    let text = process::output(std::process::Command::new("rustc").arg("-vV"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(line.to_owned())
}
