//! One process of a container: init, or an exec. Its state machine is row H35.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use corten_api::containerd::v1::types::Status;
use corten_types::{Error, ErrorKind, Result};
use tokio::sync::watch;

use crate::stdio::{Attached, StreamNames};

/// Where a process is in its life. The phases that end in `ing` last as long as the runtime works; no lock is held
/// meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Starting,
    Running,
    Pausing,
    Paused,
    Resuming,
    Stopped,
    /// Being deleted, after the phase that is gone back to if that fails.
    Deleting(Deletable),
    Deleted,
}

/// The phases that a process can be deleted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletable {
    Created,
    Stopped,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

impl Finished {
    pub(crate) fn timestamp(&self) -> prost_types::Timestamp {
        self.at.into()
    }
}

/// A process that was created, or is to be.
pub(crate) struct Process {
    /// The exec's id; the container's for init.
    pub(crate) id: String,
    pub(crate) names: StreamNames,
    state: Mutex<State>,
    attached: OnceLock<Attached>,
    phase_changed: watch::Sender<()>,
    finished: watch::Sender<Option<Finished>>,
}

struct State {
    phase: Phase,
    pid: u32,
    /// CloseIO came before there was anything to close.
    stdin_closed: bool,
}

impl Process {
    pub(crate) fn new(id: &str, names: StreamNames) -> Self {
        Self {
            id: id.to_owned(),
            names,
            state: Mutex::new(State { phase: Phase::Created, pid: 0, stdin_closed: false }),
            attached: OnceLock::new(),
            phase_changed: watch::Sender::default(),
            finished: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process id; 0 before there is one.
    pub(crate) fn pid(&self) -> u32 {
        self.lock().pid
    }

    pub(crate) fn set_pid(&self, pid: u32) {
        self.lock().pid = pid;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// The state as the daemon is told it.
    pub(crate) fn status(&self) -> Status {
        match self.phase() {
            Phase::Created | Phase::Starting => Status::Created,
            Phase::Running => Status::Running,
            Phase::Pausing => Status::Pausing,
            Phase::Paused | Phase::Resuming => Status::Paused,
            Phase::Deleting(Deletable::Created) => Status::Created,
            Phase::Stopped | Phase::Deleting(Deletable::Stopped) | Phase::Deleted => Status::Stopped,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn finished(&self) -> Option<Finished> {
        *self.finished.borrow()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) -> Finished {
        let mut ends = self.finished.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let end = ends.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        end.unwrap_or(Finished { status: 255, at: SystemTime::UNIX_EPOCH })
    }

    /// Waits for its end, at most `limit`.
    pub(crate) async fn wait_at_most(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.wait()).await;
    }

    /// Enters `next` if the phase is `expected`; otherwise fails with the words for `doing`.
    pub(crate) fn enter(&self, expected: Phase, next: Phase, doing: Doing) -> Result<()> {
        let mut state = self.lock();
        if state.phase != expected {
            return Err(doing.refusal(state.phase));
        }
        state.phase = next;
        drop(state);
        self.phase_changed.send_replace(());
        Ok(())
    }

    /// Leaves `during` for `next`, unless the process has ended meanwhile.
    pub(crate) fn leave(&self, during: Phase, next: Phase) {
        let mut state = self.lock();
        if state.phase == during {
            state.phase = next;
        }
        drop(state);
        self.phase_changed.send_replace(());
    }

    /// Enters the deletion.
    pub(crate) fn enter_deletion(&self) -> Result<Deletable> {
        let mut state = self.lock();
        let from = match state.phase {
            Phase::Created => Deletable::Created,
            Phase::Stopped => Deletable::Stopped,
            other => return Err(Doing::Delete.refusal(other)),
        };
        state.phase = Phase::Deleting(from);
        Ok(from)
    }

    /// Goes back to where a deletion that failed came from.
    pub(crate) fn abandon_deletion(&self) {
        let mut state = self.lock();
        state.phase = match state.phase {
            Phase::Deleting(Deletable::Created) if self.finished().is_none() => Phase::Created,
            Phase::Deleting(_) => Phase::Stopped,
            other => other,
        };
    }

    pub(crate) fn set_deleted(&self) {
        self.lock().phase = Phase::Deleted;
    }

    /// Waits while the runtime starts the process: its start is told before its end (row H38).
    pub(crate) async fn wait_while_starting(&self) {
        let mut changes = self.phase_changed.subscribe();
        while self.phase() == Phase::Starting {
            // The sender lives in `self`, so the channel cannot close.
            let _ = changes.changed().await;
        }
    }

    /// Records the end. True if the process was paused.
    pub(crate) fn set_finished(&self, status: u32, at: SystemTime) -> bool {
        if let Some(attached) = self.attached.get() {
            attached.process_ended();
        }
        let mut state = self.lock();
        let was_paused = matches!(state.phase, Phase::Pausing | Phase::Paused | Phase::Resuming);
        if !matches!(state.phase, Phase::Deleting(_) | Phase::Deleted) {
            state.phase = Phase::Stopped;
        }
        drop(state);
        self.finished.send_replace(Some(Finished { status, at }));
        self.phase_changed.send_replace(());
        was_paused
    }

    /// Keeps the shim's ends of its streams.
    pub(crate) fn attach(&self, attached: Attached) {
        if self.lock().stdin_closed {
            attached.close_stdin();
        }
        // A process is started once, so there is nothing there yet.
        let _ = self.attached.set(attached);
    }

    /// Begins to read its input, if it has any.
    pub(crate) fn open_stdin(&self) -> Result<()> {
        self.attached.get().map_or(Ok(()), Attached::open_stdin)
    }

    pub(crate) fn close_stdin(&self) {
        self.lock().stdin_closed = true;
        if let Some(attached) = self.attached.get() {
            attached.close_stdin();
        }
    }

    /// Tells its terminal its size. Without a terminal nothing happens.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let stopped = matches!(self.phase(), Phase::Stopped | Phase::Deleting(Deletable::Stopped));
        match self.attached.get() {
            Some(_) if stopped => Err(Error::unknown("cannot resize a stopped container")),
            Some(attached) => attached.resize(columns, rows),
            None => Ok(()),
        }
    }

    /// Waits for the rest of its output and closes its streams.
    pub(crate) async fn finish_streams(&self) {
        if let Some(attached) = self.attached.get() {
            attached.finish().await;
        }
    }
}

/// What a process was to do when its phase did not allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Start,
    Pause,
    Resume,
    Update,
    Checkpoint,
    Exec,
    Kill,
    Delete,
}

impl Doing {
    /// containerd's own words: clients show them, and some look at them (row H35).
    pub(crate) fn refusal(self, phase: Phase) -> Error {
        let verb = match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Update => "update",
            Self::Checkpoint => "checkpoint",
            Self::Exec => "exec",
            Self::Kill => "kill",
            Self::Delete => "delete",
        };
        let state = match phase {
            Phase::Created | Phase::Starting => "created",
            Phase::Running => "running",
            Phase::Pausing | Phase::Paused | Phase::Resuming => "paused",
            Phase::Stopped | Phase::Deleting(_) => "stopped",
            Phase::Deleted => "deleted",
        };
        let gone = phase == Phase::Deleted && matches!(self, Self::Kill | Self::Delete);
        let kind = if gone { ErrorKind::NotFound } else { ErrorKind::Unknown };
        let message = match (self, state) {
            _ if matches!(phase, Phase::Deleting(_)) && self == Self::Delete => {
                return Error::failed_precondition("the process is being deleted already");
            }
            (Self::Pause | Self::Resume, "created") => format!("cannot {verb} task in created state"),
            (Self::Checkpoint, "created") => "cannot checkpoint a task in created state".to_owned(),
            (Self::Exec, _) => format!("cannot exec in a {state} state"),
            (Self::Start | Self::Kill | Self::Delete, _) | (_, "deleted" | "running") => {
                format!("cannot {verb} a {state} process")
            }
            _ => format!("cannot {verb} a {state} container"),
        };
        Error::new(kind, message)
    }
}

#[cfg(test)]
#[path = "process/tests.rs"]
mod tests;
