//! What can be chosen for each command.

use std::{os::fd::OwnedFd, path::PathBuf};

/// The descriptors that a container's process gets. What is `None` is the null device.
///
/// With neither `stdout` nor `stderr` (a terminal takes their place) what the runtime prints is kept for its error message.
#[derive(Debug, Default)]
pub struct ProcessIo {
    /// Its standard input.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
}

/// What can be chosen for `create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Where the runtime writes the process id of init. Absolute.
    pub pid_file: Option<PathBuf>,
    /// The socket that receives the terminal, if the specification asks for one.
    pub console_socket: Option<PathBuf>,
    /// Do not use `pivot_root`.
    pub no_pivot: bool,
    /// Do not make a new session keyring.
    pub no_new_keyring: bool,
}

/// What can be chosen for `exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Where the runtime writes the process id. Absolute.
    pub pid_file: Option<PathBuf>,
    /// The socket that receives the terminal, if the process asks for one.
    pub console_socket: Option<PathBuf>,
    /// Return as soon as the process runs.
    pub detach: bool,
}

/// What can be chosen for `checkpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Where the image goes.
    pub image_path: Option<PathBuf>,
    /// Where criu works and logs.
    pub work_path: Option<PathBuf>,
    /// An earlier image that this one builds on.
    pub parent_path: Option<PathBuf>,
    /// Open TCP connections may be checkpointed.
    pub open_tcp: bool,
    /// Unix sockets to the outside may be checkpointed.
    pub external_unix_sockets: bool,
    /// The terminal may be checkpointed.
    pub terminal: bool,
    /// File locks may be checkpointed.
    pub file_locks: bool,
    /// `soft`, `full` or `strict`; empty for the runtime's own choice.
    pub cgroups_mode: String,
    /// Kinds of namespaces that are made anew on restore.
    pub empty_namespaces: Vec<String>,
    /// The container goes on running.
    pub leave_running: bool,
}

/// What can be chosen for `restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Where the image is, and what it was made with.
    pub checkpoint: CheckpointOptions,
    /// Where the runtime writes the process id of init. Absolute.
    pub pid_file: Option<PathBuf>,
    /// The socket that receives the terminal.
    pub console_socket: Option<PathBuf>,
    /// Do not use `pivot_root`.
    pub no_pivot: bool,
    /// Return as soon as the container runs.
    pub detach: bool,
    /// The caller is a subreaper itself.
    pub no_subreaper: bool,
}

impl CreateOptions {
    pub(crate) fn arguments(&self) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.path("--pid-file", self.pid_file.as_ref());
        arguments.path("--console-socket", self.console_socket.as_ref());
        arguments.flag("--no-pivot", self.no_pivot);
        arguments.flag("--no-new-keyring", self.no_new_keyring);
        arguments
    }
}

impl ExecOptions {
    pub(crate) fn arguments(&self) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.path("--console-socket", self.console_socket.as_ref());
        arguments.flag("--detach", self.detach);
        arguments.path("--pid-file", self.pid_file.as_ref());
        arguments
    }
}

impl CheckpointOptions {
    pub(crate) fn arguments(&self) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.path("--image-path", self.image_path.as_ref());
        arguments.path("--work-path", self.work_path.as_ref());
        arguments.path("--parent-path", self.parent_path.as_ref());
        arguments.flag("--tcp-established", self.open_tcp);
        arguments.flag("--ext-unix-sk", self.external_unix_sockets);
        arguments.flag("--shell-job", self.terminal);
        arguments.flag("--file-locks", self.file_locks);
        if !self.cgroups_mode.is_empty() {
            arguments.pair("--manage-cgroups-mode", &self.cgroups_mode);
        }
        for namespace in &self.empty_namespaces {
            arguments.pair("--empty-ns", namespace);
        }
        arguments.flag("--leave-running", self.leave_running);
        arguments
    }
}

impl RestoreOptions {
    pub(crate) fn arguments(&self) -> Arguments {
        let mut arguments = self.checkpoint.arguments();
        arguments.flag("--detach", self.detach);
        arguments.path("--pid-file", self.pid_file.as_ref());
        arguments.path("--console-socket", self.console_socket.as_ref());
        arguments.flag("--no-pivot", self.no_pivot);
        arguments.flag("--no-subreaper", self.no_subreaper);
        arguments
    }
}

/// Words of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments(pub(crate) Vec<std::ffi::OsString>);

impl Arguments {
    pub(crate) fn of<const N: usize>(words: [&str; N]) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }

    pub(crate) fn word(mut self, word: impl Into<std::ffi::OsString>) -> Self {
        self.0.push(word.into());
        self
    }

    pub(crate) fn all(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    fn flag(&mut self, name: &str, wanted: bool) {
        if wanted {
            self.0.push(name.into());
        }
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn path(&mut self, name: &str, value: Option<&PathBuf>) {
        if let Some(value) = value {
            self.0.push(name.into());
            self.0.push(value.into());
        }
    }
}
