//! The two daemons that are compared, each with its own shim, and a server of either on a fresh filesystem.

use std::{
    ffi::OsString,
    fmt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use corten_tests::{Daemon, DaemonOptions, Kind, Programs};

use crate::{
    filesystem::{Fresh, sync},
    options::Options,
    process,
};

/// Which of the two. As a number it is an index of what is kept for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Corten = 0,
    Containerd = 1,
}

/// Both.
pub(crate) const PEERS: [Peer; 2] = [Peer::Corten, Peer::Containerd];

impl Peer {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Corten => Kind::Corten,
            Self::Containerd => Kind::Containerd,
        }
    }

    /// Ours is that of the crates: what `cortend --version` prints is the containerd that it stands in for.
    pub(crate) fn version(self) -> anyhow::Result<String> {
        if self == Self::Corten {
            return Ok(env!("CARGO_PKG_VERSION").to_owned());
        }
        let program = Programs::find()?.containerd;
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("start {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text.split_whitespace().find(|word| word.contains('.') && !word.contains('/'));
        Ok(number.unwrap_or("unknown").split(['+', '~']).next().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Corten => "Corten",
            Self::Containerd => "containerd",
        })
    }
}

/// Both, beginning with the one whose turn it is, so that neither always runs on a rested machine.
pub(crate) fn turns(repetition: usize) -> [Peer; 2] {
    if repetition.is_multiple_of(2) { PEERS } else { [Peer::Containerd, Peer::Corten] }
}

/// A running daemon, whose durable folder is on a filesystem of its own.
pub(crate) struct Server {
    // In this order: the daemon ends before its filesystem goes.
    daemon: Daemon,
    filesystem: Fresh,
    idle_mb: f64,
}

/// What a piece of work cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu_seconds: f64,
}

impl Server {
    /// Starts one on a fresh filesystem that holds `size_mb` megabytes.
    pub(crate) fn start(peer: Peer, options: &Options, size_mb: u64) -> anyhow::Result<Self> {
        Self::start_on(peer, Fresh::new(&options.folder, size_mb)?, Vec::new())
    }

    /// Starts one on this filesystem.
    pub(crate) fn start_on(peer: Peer, filesystem: Fresh, launcher: Vec<OsString>) -> anyhow::Result<Self> {
        let daemon = Daemon::start_with(DaemonOptions {
            kind: peer.kind(),
            root: Some(filesystem.path().join("root")),
            log_level: "info",
            launcher,
            ..DaemonOptions::default()
        })?;
        let idle_mb = process::resident_mb(daemon.pid())?;
        Ok(Self { daemon, filesystem, idle_mb })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.daemon.address()
    }

    /// Where its filesystem is mounted.
    pub(crate) fn mounted(&self) -> PathBuf {
        self.filesystem.path()
    }

    /// How many flushes its device was asked for.
    pub(crate) fn flushes(&self) -> anyhow::Result<f64> {
        self.filesystem.flushes()
    }

    /// What it had in memory before it had done anything, in megabytes.
    pub(crate) fn idle_mb(&self) -> f64 {
        self.idle_mb
    }

    /// What it has in memory a moment after its work.
    pub(crate) fn settled_mb(&self) -> anyhow::Result<f64> {
        std::thread::sleep(Duration::from_secs(1));
        process::resident_mb(self.pid())
    }

    /// Measures some work, until everything is on the device: who acknowledged earlier is waited for.
    pub(crate) fn measure<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Cost)> {
        let (before, begin) = (process::cpu_seconds(self.pid())?, Instant::now());
        let result = work()?;
        sync(&self.mounted())?;
        let wall = begin.elapsed();
        Ok((result, Cost { wall, cpu_seconds: process::cpu_seconds(self.pid())? - before }))
    }

    /// Ends it; it must leave nothing behind.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.daemon.finish()
    }
}
