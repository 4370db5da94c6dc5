//! Programs that read a container's output (rows H62 and H63).

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    time::Duration,
};

use corten_types::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::{Owner, copy, pipes, uri::Helper};
use crate::{log, reaper::Exit};

/// How long a helper may take to end after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(12);

/// Where the helper finds the output, the error output and the pipe to say that it is ready on.
const HELPER_DESCRIPTORS: [RawFd; 3] = [3, 4, 5];

/// A running helper.
pub(crate) struct Logger {
    pid: u32,
    exit: oneshot::Receiver<Exit>,
}

impl Logger {
    /// Starts the helper and waits until it is ready. Returns the ends that the container writes to.
    pub(crate) async fn start(helper: &Helper, owner: Owner<'_>) -> Result<(Self, OwnedFd, OwnedFd)> {
        let what = || format!("start the log helper {}", helper.program.display());
        let (stdout_reader, stdout) = pipes::pipe()?;
        let (stderr_reader, stderr) = pipes::pipe()?;
        let (ready, ready_writer) = pipes::pipe()?;
        let mut command = Command::new(&helper.program);
        command
            .args(&helper.arguments)
            .env_clear()
            .env("CONTAINER_ID", owner.container)
            .env("CONTAINER_NAMESPACE", owner.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        hand_over(&mut command, [stdout_reader, stderr_reader, ready_writer])
            .map_err(|error| Error::io(what(), error))?;
        let (pid, exit) = owner.reaper.spawn(command).map_err(|error| Error::io(what(), error))?;
        let logger = Self { pid, exit };
        match said_ready(ready).await {
            Ok(said) if said || !helper.must_say_ready => Ok((logger, stdout, stderr)),
            Ok(_) => {
                logger.kill(Signal::KILL);
                Err(Error::unknown(format!(
                    "{}: logging binary did not call ready (it may have crashed or exited prematurely)",
                    what()
                )))
            }
            Err(error) => {
                logger.kill(Signal::KILL);
                Err(error)
            }
        }
    }

    /// Asks the helper to end, and makes it end after a while.
    pub(crate) async fn stop(mut self) {
        if self.exit.try_recv().is_ok() {
            return;
        }
        self.kill(Signal::TERM);
        if tokio::time::timeout(STOP_DEADLINE, &mut self.exit).await.is_err() {
            log::warn(format_args!("the log helper {} does not end and is killed", self.pid));
            self.kill(Signal::KILL);
        }
    }

    fn kill(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Makes `descriptors` the ones that a helper expects.
fn hand_over(command: &mut Command, descriptors: [OwnedFd; 3]) -> io::Result<()> {
    // Moved out of the way first, so that putting one in place does not close another.
    let mut moved = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        moved.push(rustix::io::fcntl_dupfd_cloexec(&descriptor, 16)?);
    }
    // SAFETY: the closure makes system calls only; the descriptors that it holds are open until the command is dropped.
    unsafe {
        command.pre_exec(move || {
            for (descriptor, number) in moved.iter().zip(HELPER_DESCRIPTORS) {
                place(descriptor, number)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// Makes `number` a duplicate of `descriptor` that survives an exec.
pub(crate) fn place(descriptor: &OwnedFd, number: RawFd) -> io::Result<()> {
    use std::os::fd::FromRawFd;
    if descriptor.as_raw_fd() == number {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        return Ok(());
    }
    // SAFETY: the value only names the number for dup2, which closes what was there; forgetting it keeps the new one open.
    let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    rustix::io::dup2(descriptor, &mut target)?;
    Ok(())
}

/// Waits until the helper writes a byte (true) or closes its end (false).
async fn said_ready(ready: OwnedFd) -> Result<bool> {
    let ready = copy::source(ready)?;
    match copy::next(&ready, None).await {
        Ok(copy::Step::Moved(_)) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(Error::io("wait for a log helper", error)),
    }
}
