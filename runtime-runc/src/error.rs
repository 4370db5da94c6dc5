//! Why a call of the runtime failed.

use std::{fmt, io, path::PathBuf};

use corten_types::{Error, ErrorKind};

/// The result of a call of the runtime.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// What the runtime was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `create`
    Create,
    /// `start`
    Start,
    /// `state`
    State,
    /// `kill`
    Kill,
    /// `kill --all`
    KillAll,
    /// `delete`
    Delete,
    /// `exec`
    Exec,
    /// `ps`
    Ps,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `update`
    Update,
    /// `checkpoint`
    Checkpoint,
    /// `restore`
    Restore,
    /// `features`
    Features,
    /// `--version`
    Version,
}

impl Operation {
    /// How containerd's clients know a failure of this operation (row H45).
    fn failure(self) -> &'static str {
        match self {
            Self::Create => "OCI runtime create failed",
            Self::Start => "OCI runtime start failed",
            Self::State => "OCI runtime state failed",
            Self::Kill => "unknown error after kill",
            Self::KillAll => "OCI runtime killall failed",
            Self::Delete => "failed to delete task",
            Self::Exec => "OCI runtime exec failed",
            Self::Ps => "OCI runtime ps failed",
            Self::Pause => "OCI runtime pause failed",
            Self::Resume => "OCI runtime resume failed",
            Self::Update => "OCI runtime update failed",
            Self::Checkpoint => "OCI runtime checkpoint failed",
            Self::Restore => "OCI runtime restore failed",
            Self::Features => "OCI runtime features failed",
            Self::Version => "OCI runtime version failed",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.failure())
    }
}

/// Why a call of the runtime failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The runtime ran and said no. What it changed before that is its own affair.
    #[error("{operation}: {message}")]
    Refused {
        /// What it was asked to do.
        operation: Operation,
        /// The last error of its log, or else its exit status and what it printed.
        message: String,
    },
    /// The signal came too late: the process had ended. Nothing changed.
    #[error("process already finished")]
    ProcessFinished,
    /// The runtime does not know the container. Nothing changed.
    #[error("no such container")]
    NoSuchContainer,
    /// The binary could not be started. Nothing changed.
    #[error("{operation}: cannot run {}", binary.display())]
    NotStarted {
        /// What it was to do.
        operation: Operation,
        /// The binary.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime did as it was told, but its answer makes no sense.
    #[error("{operation}: its answer makes no sense: {message}")]
    BadAnswer {
        /// What it was asked to do.
        operation: Operation,
        /// What is wrong.
        message: String,
    },
    /// A file or a descriptor around the call failed in `step`.
    #[error("cannot {step}")]
    Io {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl RuntimeError {
    pub(crate) fn io(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { step: step.into(), source: source.into() }
    }

    /// The class that containerd's clients expect (row H36: what is already gone is NotFound).
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ProcessFinished | Self::NoSuchContainer => ErrorKind::NotFound,
            _ => ErrorKind::Unknown,
        }
    }

    /// The runtime has no container of that name, so that a deletion has nothing left to do.
    #[must_use]
    pub fn is_unknown_container(&self) -> bool {
        match self {
            Self::NoSuchContainer => true,
            Self::Refused { message, .. } => message.contains("does not exist"),
            _ => false,
        }
    }
}

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Self {
        let kind = error.kind();
        let message = error.to_string();
        match error {
            RuntimeError::NotStarted { source, .. } | RuntimeError::Io { source, .. } => {
                Error::new(kind, message).with_source(source)
            }
            _ => Error::new(kind, message),
        }
    }
}
