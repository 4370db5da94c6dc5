//! What goes in and comes out of [`Tasks`](crate::Tasks): plain values, no protobuf.

use std::{collections::BTreeMap, time::SystemTime};

use corten_types::{Any, Mount, Namespace};

/// What a new task is made from.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The namespace.
    pub namespace: Namespace,
    /// The container's id, which is the task's.
    pub id: String,
    /// The container's runtime, for example `io.containerd.runc.v2`, or an absolute path of a shim.
    pub runtime: String,
    /// Overrides `runtime` if not empty (K03).
    pub runtime_path: String,
    /// The container's runtime options, used where the task brings none (K02).
    pub runtime_options: Option<Any>,
    /// The task's own options; of type `containerd.runc.v1.Options` if given (K01). Without bytes they count as not given.
    pub task_options: Option<Any>,
    /// The OCI spec; its bytes become `config.json` as they are (H71).
    pub spec: Any,
    /// What the shim mounts on `rootfs`, in this order.
    pub rootfs: Vec<Mount>,
    /// A fifo or URI, absolute; empty if not connected (K06).
    pub stdin: String,
    /// As `stdin`.
    pub stdout: String,
    /// As `stdin`; ignored by shims if `terminal`.
    pub stderr: String,
    /// Whether the process has a pseudo-terminal.
    pub terminal: bool,
    /// A folder with a checkpoint to restore from; empty for none. The options' `criu_image_path` comes first (K05).
    pub checkpoint: String,
    /// The sandbox whose shim is joined if that shim speaks version 3 (H15); empty for none.
    pub sandbox_id: String,
    /// The task service of the sandbox, `<protocol>+<address>`, and its version, if its controller gave one (K04).
    pub task_api: Option<(String, u32)>,
}

impl CreateOptions {
    /// A task without mounts, streams and options.
    pub fn new(namespace: Namespace, id: impl Into<String>, runtime: impl Into<String>, spec: Any) -> Self {
        Self {
            namespace,
            id: id.into(),
            runtime: runtime.into(),
            runtime_path: String::new(),
            runtime_options: None,
            task_options: None,
            spec,
            rootfs: Vec::new(),
            stdin: String::new(),
            stdout: String::new(),
            stderr: String::new(),
            terminal: false,
            checkpoint: String::new(),
            sandbox_id: String::new(),
            task_api: None,
        }
    }
}

/// A task that was made and not started yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The process that waits to become the container's first, in the daemon's pid namespace.
    pub pid: u32,
}

/// A further process of a container, registered and not started (K14).
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// The OCI process as JSON in an `Any`, handed on as it is.
    pub spec: Option<Any>,
    /// A fifo or URI, absolute; empty if not connected.
    pub stdin: String,
    /// As `stdin`.
    pub stdout: String,
    /// As `stdin`.
    pub stderr: String,
    /// Whether the process has a pseudo-terminal.
    pub terminal: bool,
}

/// Where a process is in its life (K12). The numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// The shim did not say, or cannot be asked at the moment.
    #[default]
    Unknown = 0,
    /// Made, not started.
    Created = 1,
    /// Running.
    Running = 2,
    /// Exited, not deleted.
    Stopped = 3,
    /// Frozen.
    Paused = 4,
    /// About to be frozen.
    Pausing = 5,
}

impl Status {
    pub(crate) fn from_wire(number: i32) -> Self {
        match number {
            1 => Self::Created,
            2 => Self::Running,
            3 => Self::Stopped,
            4 => Self::Paused,
            5 => Self::Pausing,
            _ => Self::Unknown,
        }
    }
}

/// The state of a task's first process or of an exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The container's id for the first process, the exec's for an exec (K10).
    pub id: String,
    /// Its pid in the daemon's pid namespace; 0 if it was not started.
    pub pid: u32,
    /// Where it is in its life.
    pub status: Status,
    /// As given at its creation.
    pub stdin: String,
    /// As given at its creation.
    pub stdout: String,
    /// As given at its creation.
    pub stderr: String,
    /// As given at its creation.
    pub terminal: bool,
    /// What it exited with, 128 + signal if a signal ended it (K23); 0 while it runs.
    pub exit_status: u32,
    /// When it exited. `None` while it runs: on gRPC that is year 1, not 1970 (X10).
    pub exited_at: Option<SystemTime>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its pid; 0 where the shim does not say (an answer to `Wait`).
    pub pid: u32,
    /// What it exited with, 128 + signal if a signal ended it.
    pub status: u32,
    /// When.
    pub at: Option<SystemTime>,
}

/// A process inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its pid in the daemon's pid namespace.
    pub pid: u32,
    /// `containerd.runc.v1.ProcessDetails` for an exec (K18).
    pub info: Option<Any>,
}

/// The resource counters of one task (K21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The task.
    pub id: String,
    /// When they were read.
    pub at: SystemTime,
    /// `io.containerd.cgroups.v1.Metrics` or `io.containerd.cgroups.v2.Metrics`, as the shim sent it.
    pub data: Option<Any>,
}

/// What a shim says about itself and its OCI runtime (H19).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// The runtime's name, for example `io.containerd.runc.v2`.
    pub name: String,
    /// The shim's version.
    pub version: String,
    /// The commit that it was built from.
    pub revision: String,
    /// The type of its options.
    pub options: Option<Any>,
    /// What its OCI runtime can do, as JSON in an `Any`.
    pub features: Option<Any>,
    /// Anything else.
    pub annotations: BTreeMap<String, String>,
}

/// What [`Tasks::recover`](crate::Tasks::recover) found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bundles that are being reconnected to their shims.
    pub reconnecting: usize,
    /// Empty or half deleted folders that were removed.
    pub removed: usize,
}
