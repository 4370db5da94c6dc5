//! Where things are, what shims are told, and how long they may take.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use corten_events::Exchange;
use corten_mount_manager::Activations;

/// The settings of [`Tasks`](crate::Tasks). All paths are absolute.
#[derive(Clone)]
pub struct Options {
    /// The daemon's root; tasks keep their work folders below `io.containerd.runtime.v2.task`.
    pub root: PathBuf,
    /// The daemon's state; bundles live below `io.containerd.runtime.v2.task`.
    pub state: PathBuf,
    /// The daemon's gRPC socket, as shims are told.
    pub grpc_address: String,
    /// The ttrpc socket that shims forward events to.
    pub ttrpc_address: String,
    /// The program that shims run as `<program> publish` (H79).
    pub containerd_binary: PathBuf,
    /// The version that shims are told.
    pub version: String,
    /// Whether shims log in detail (H04).
    pub debug: bool,
    /// Shims that are not looked for, by runtime name: `io.containerd.runc.v2` -> `/opt/shim`.
    pub shim_overrides: BTreeMap<String, PathBuf>,
    /// Folders that are searched for shims before `PATH`.
    pub search_dirs: Vec<PathBuf>,
    /// Further environment of shims, `NAME=value` (H05).
    pub env: Vec<(String, String)>,
    /// Where shims make their sockets; their own default if `None` (H12).
    pub socket_dir: Option<PathBuf>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What makes mounts that shims cannot (H82); without it they are handed on as they are.
    pub mounts: Option<Activations>,
    /// Where made up events go.
    pub events: Exchange,
}

impl Options {
    /// Settings with containerd's time-outs. Shims are looked for beside this program, then in `PATH`.
    pub fn new(
        root: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
        grpc_address: impl Into<String>,
        ttrpc_address: impl Into<String>,
        events: Exchange,
    ) -> Self {
        let own_program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/cortend"));
        Self {
            root: root.into(),
            state: state.into(),
            grpc_address: grpc_address.into(),
            ttrpc_address: ttrpc_address.into(),
            search_dirs: own_program.parent().map(Path::to_path_buf).into_iter().collect(),
            containerd_binary: own_program,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            debug: false,
            shim_overrides: BTreeMap::new(),
            env: Vec::new(),
            socket_dir: None,
            timeouts: Timeouts::default(),
            mounts: None,
            events,
        }
    }
}

/// How long shims may take. The names are those of containerd's `[timeouts]`, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `io.containerd.timeout.shim.load`: reconnecting to one shim after a restart.
    pub load: Duration,
    /// `io.containerd.timeout.shim.cleanup`: cleaning up after one dead shim.
    pub cleanup: Duration,
    /// `io.containerd.timeout.shim.shutdown`: a shim's exit after its last task.
    pub shutdown: Duration,
    /// `io.containerd.timeout.task.state`: asking one task for its state.
    pub state: Duration,
    /// The run of `<shim> start` and the connection after it.
    pub start: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            load: Duration::from_secs(5),
            cleanup: Duration::from_secs(5),
            shutdown: Duration::from_secs(3),
            state: Duration::from_secs(2),
            start: Duration::from_secs(60),
        }
    }
}
