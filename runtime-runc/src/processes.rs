//! The seam through which processes are started and waited for.

use std::{
    fmt, io,
    process::{Command, ExitStatus},
};

use async_trait::async_trait;

/// Starts processes and learns of their ends.
///
/// A program that reaps all its children itself (a subreaper) implements this on its own reaper: two parts of one program
/// that wait for the same children take exits away from each other.
#[async_trait]
pub trait Processes: Send + Sync + fmt::Debug {
    /// Starts `command` and waits for its end.
    ///
    /// The implementation drops `command` as soon as the process was started: it holds descriptors whose other ends wait
    /// for the last copy to be closed. The thread that starts the process must outlive it, because commands ask the
    /// kernel to kill them when that thread ends.
    ///
    /// # Errors
    /// The process could not be started or waited for.
    async fn run(&self, command: Command) -> io::Result<ExitStatus>;
}

/// One thread of tokio's blocking pool a process: for programs that have no reaper of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadedProcesses;

#[async_trait]
impl Processes for ThreadedProcesses {
    async fn run(&self, mut command: Command) -> io::Result<ExitStatus> {
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn()?;
            drop(command);
            child.wait()
        })
        .await
        .map_err(io::Error::other)?
    }
}
