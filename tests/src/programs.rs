//! Where the programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The programs under test and their peers.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our daemon.
    pub cortend: PathBuf,
    /// Our shim.
    pub shim: PathBuf,
    /// Debian's containerd.
    pub containerd: PathBuf,
    /// Debian's shim.
    pub stock_shim: PathBuf,
}

impl Programs {
    /// Ours at these paths, the peers where Debian has them or the environment says.
    #[must_use]
    pub fn at(cortend: PathBuf, shim: PathBuf) -> Self {
        Self {
            cortend,
            shim,
            containerd: chosen("CORTEN_TEST_CONTAINERD", "/usr/bin/containerd".into()),
            stock_shim: chosen("CORTEN_TEST_STOCK_SHIM", "/usr/bin/containerd-shim-runc-v2".into()),
        }
    }

    /// Finds them: ours where `cargo xtask build` puts them, or where the environment says.
    ///
    /// # Errors
    /// If this program lies in no target folder.
    pub fn find() -> anyhow::Result<Self> {
        let target = target_folder()?;
        let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        Ok(Self::at(
            chosen("CORTEN_TEST_DAEMON", target.join("debug/cortend")),
            chosen(
                "CORTEN_TEST_SHIM",
                target.join("shim-build").join(triple).join("shim/containerd-shim-runc-v2"),
            ),
        ))
    }
}

/// Whether a test that needs root can run.
///
/// # Panics
/// Where `CORTEN_TEST_ROOT` is set and this is not root, so that CI cannot skip in silence.
#[must_use]
pub fn root_or_skip() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || env::var_os("CORTEN_TEST_ROOT").is_none(),
        "CORTEN_TEST_ROOT is set, but this is not root"
    );
    if !root {
        println!("skipped: needs root");
    }
    root
}

fn chosen(variable: &str, default: PathBuf) -> PathBuf {
    env::var_os(variable).map_or(default, PathBuf::from)
}

/// The target folder that this test was built into: two folders above `deps`.
fn target_folder() -> anyhow::Result<PathBuf> {
    let this = env::current_exe().context("find this program")?;
    let profile = this
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "debug" || name == "release"));
    profile
        .and_then(Path::parent)
        .map(Path::to_owned)
        .with_context(|| format!("{} lies in no target folder", this.display()))
}
