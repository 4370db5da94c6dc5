//! Start, kill, delete, pause and resume, and what happens when a process ends.

use std::{sync::Arc, time::Duration};

use corten_api::containerd::{
    events::{TaskDelete, TaskExecStarted, TaskExit, TaskPaused, TaskResumed, TaskStart},
    task::v3::{
        DeleteRequest, DeleteResponse, KillRequest, PauseRequest, ResumeRequest, ShutdownRequest,
        StartRequest, StartResponse,
    },
};
use corten_runtime_runc::{RestoreOptions, RuntimeError, read_pid_file};
use corten_types::{Error, Result};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use tokio::sync::oneshot;

use super::{
    Shim,
    create::{INIT_PID_FILE, unmount_rootfs},
};
use crate::{
    container::{Container, Restore},
    log,
    process::{Deletable, Doing, Phase, Process},
    reaper::Exit,
    stdio,
};

/// The signal that cannot be refused.
const SIGKILL: u32 = 9;

/// How long a deletion waits for the end of an init that it has killed.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

impl Shim {
    pub(super) async fn start(self: Arc<Self>, request: StartRequest) -> Result<StartResponse> {
        let container = self.container(&request.id)?;
        if !request.exec_id.is_empty() {
            return self.start_exec(&container, &request.exec_id).await;
        }
        let init = container.init.clone();
        init.enter(Phase::Created, Phase::Starting, Doing::Start)?;
        let started = match &container.restore {
            None => start_init(&container).await.map(|()| None),
            Some(restore) => self.restore(&container, restore).await.map(Some),
        };
        match started {
            Ok(restored) => {
                self.publisher.publish(&TaskStart { container_id: container.id.clone(), pid: init.pid() });
                init.leave(Phase::Starting, Phase::Running);
                if let Some(exit) = restored {
                    self.watch_cgroup(&container);
                    self.watch_init(container, exit);
                }
                Ok(StartResponse { pid: init.pid() })
            }
            Err(error) => {
                init.leave(Phase::Starting, Phase::Created);
                Err(error)
            }
        }
    }

    /// Lets the runtime bring a container back from its image.
    async fn restore(&self, container: &Container, restore: &Restore) -> Result<oneshot::Receiver<Exit>> {
        let pid_file = container.bundle.join(INIT_PID_FILE);
        let mut streams = stdio::prepare(&container.init.names, self.owner(container)).await?;
        let io = streams.take_io();
        let options = RestoreOptions {
            checkpoint: restore.checkpoint.clone(),
            pid_file: Some(pid_file.clone()),
            console_socket: streams.console.as_ref().map(|socket| socket.path().to_owned()),
            no_pivot: restore.no_pivot,
            detach: true,
            no_subreaper: true,
        };
        let expected = self.reaper.expect_start();
        container
            .runtime
            .restore(&container.id, &container.bundle, &options, io)
            .await
            .map_err(Error::from)?;
        container.init.attach(streams.attach().await?);
        container.init.open_stdin()?;
        let pid = read_pid_file(&pid_file).map_err(Error::from)?;
        container.init.set_pid(pid);
        Ok(expected.claim(pid))
    }

    async fn start_exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec_id: &str,
    ) -> Result<StartResponse> {
        let exec = container.exec(exec_id)?;
        container.begin_exec()?;
        let started = self.run_exec(container, &exec).await;
        match started {
            Ok(exit) => {
                let pid = exec.process.pid();
                self.publisher.publish(&TaskExecStarted {
                    container_id: container.id.clone(),
                    exec_id: exec_id.to_owned(),
                    pid,
                });
                exec.process.leave(Phase::Starting, Phase::Running);
                self.watch_exec(container.clone(), exec.process.clone(), exit);
                Ok(StartResponse { pid })
            }
            Err(error) => {
                container.end_exec();
                Err(error)
            }
        }
    }

    /// Tells the end of an exec, and only then lets init's end be told (row H37).
    fn watch_exec(
        self: &Arc<Self>,
        container: Arc<Container>,
        process: Arc<Process>,
        exit: oneshot::Receiver<Exit>,
    ) {
        let shim = self.clone();
        tokio::spawn(async move {
            // The reaper lives as long as the shim.
            if let Ok(exit) = exit.await {
                shim.tell_end(&container, &process, exit);
            }
            container.end_exec();
        });
    }

    /// Tells the end of init, after its start and after the ends of all execs.
    pub(super) fn watch_init(self: &Arc<Self>, container: Arc<Container>, exit: oneshot::Receiver<Exit>) {
        let shim = self.clone();
        tokio::spawn(async move {
            // The reaper lives as long as the shim.
            let Ok(exit) = exit.await else { return };
            container.set_init_ended();
            container.init.wait_while_starting().await;
            if container.processes_outlive_init() {
                kill_all(&container).await;
            }
            container.wait_for_execs().await;
            if let Some(watch) = container.take_oom_watch() {
                watch.finish();
            }
            let was_paused = shim.tell_end(&container, &container.init, exit);
            if was_paused && let Err(error) = container.runtime.resume(&container.id).await {
                log::warn(format_args!("resume {}, which ended while paused: {error}", container.id));
            }
        });
    }

    /// Records and publishes an end. True if the process was paused.
    fn tell_end(&self, container: &Container, process: &Process, exit: Exit) -> bool {
        let was_paused = process.set_finished(exit.code(), exit.at);
        self.publisher.publish(&TaskExit {
            container_id: container.id.clone(),
            id: process.id.clone(),
            pid: exit.pid,
            exit_status: exit.code(),
            exited_at: Some(exit.at.into()),
        });
        was_paused
    }

    pub(super) async fn kill(self: Arc<Self>, request: KillRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        if !request.exec_id.is_empty() {
            return kill_exec(&container.exec(&request.exec_id)?.process, request.signal);
        }
        if container.init.phase() == Phase::Deleted {
            return Err(Doing::Kill.refusal(Phase::Deleted));
        }
        container.runtime.kill(&container.id, request.signal, request.all).await.map_err(Error::from)
    }

    pub(super) async fn pause(self: Arc<Self>, request: PauseRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        container.init.enter(Phase::Running, Phase::Pausing, Doing::Pause)?;
        let paused = container.runtime.pause(&container.id).await;
        let next = if paused.is_ok() { Phase::Paused } else { Phase::Running };
        container.init.leave(Phase::Pausing, next);
        paused.map_err(Error::from)?;
        self.publisher.publish(&TaskPaused { container_id: container.id.clone() });
        Ok(())
    }

    pub(super) async fn resume(self: Arc<Self>, request: ResumeRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        container.init.enter(Phase::Paused, Phase::Resuming, Doing::Resume)?;
        let resumed = container.runtime.resume(&container.id).await;
        let next = if resumed.is_ok() { Phase::Running } else { Phase::Paused };
        container.init.leave(Phase::Resuming, next);
        resumed.map_err(Error::from)?;
        self.publisher.publish(&TaskResumed { container_id: container.id.clone() });
        Ok(())
    }

    pub(super) async fn delete(self: Arc<Self>, request: DeleteRequest) -> Result<DeleteResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let from = process.enter_deletion()?;
        if from == Deletable::Stopped {
            process.finish_streams().await;
        }
        if !request.exec_id.is_empty() {
            // The pid file is written again by an exec of the same name.
            let _ = std::fs::remove_file(container.bundle.join(format!("{}.pid", request.exec_id)));
            process.set_deleted();
            container.remove_exec(&request.exec_id);
            return Ok(answer(&process));
        }
        if let Err(error) = delete_init(&container, from).await {
            process.abandon_deletion();
            return Err(error);
        }
        process.set_deleted();
        self.remove(&container.id);
        let answer = answer(&process);
        self.publisher.publish(&TaskDelete {
            container_id: container.id.clone(),
            pid: answer.pid,
            exit_status: answer.exit_status,
            exited_at: answer.exited_at,
            id: String::new(),
        });
        Ok(answer)
    }

    pub(super) async fn shutdown(self: Arc<Self>, _request: ShutdownRequest) -> Result<()> {
        self.end_if_empty();
        Ok(())
    }
}

async fn start_init(container: &Container) -> Result<()> {
    container.init.open_stdin()?;
    container.runtime.start(&container.id).await.map_err(Error::from)
}

/// Removes a container from the runtime and unmounts its root filesystem. The runtime may have forgotten it already, for
/// example after a checkpoint (row H33).
async fn delete_init(container: &Container, from: Deletable) -> Result<()> {
    let started = container.init.pid() > 0;
    match container.runtime.delete(&container.id, false).await {
        Ok(()) => {}
        Err(error) if error.is_unknown_container() || !started => {}
        Err(error) => return Err(error.into()),
    }
    if from == Deletable::Created && started {
        // The runtime killed an init that never ran; its end is told before the deletion.
        container.init.wait_at_most(KILL_DEADLINE).await;
        container.init.finish_streams().await;
    }
    if let Some(rootfs) = &container.rootfs {
        unmount_rootfs(rootfs.clone()).await;
    }
    Ok(())
}

async fn kill_all(container: &Container) {
    match container.runtime.kill(&container.id, SIGKILL, true).await {
        Ok(()) | Err(RuntimeError::ProcessFinished | RuntimeError::NoSuchContainer) => {}
        Err(error) => log::warn(format_args!("kill what init of {} left: {error}", container.id)),
    }
}

fn kill_exec(process: &Process, signal: u32) -> Result<()> {
    let already = || Error::not_found("process already finished");
    let pid = process.pid();
    if pid == 0 {
        return Err(Error::failed_precondition("process not created"));
    }
    if process.finished().is_some() {
        return Err(already());
    }
    let invalid = || Error::invalid_argument(format!("signal {signal} cannot be sent"));
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(invalid)?;
    let number = i32::try_from(signal).map_err(|_| invalid())?;
    let sent = if number == 0 {
        rustix::process::test_kill_process(pid)
    } else {
        // SAFETY: the kernel refuses numbers that are no signals; real-time signals have no names here.
        kill_process(pid, unsafe { Signal::from_raw_unchecked(number) })
    };
    match sent {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(already()),
        Err(error) => Err(Error::unknown("exec kill error").with_source(std::io::Error::from(error))),
    }
}

fn answer(process: &Process) -> DeleteResponse {
    let finished = process.finished();
    DeleteResponse {
        pid: process.pid(),
        exit_status: finished.map_or(0, |finished| finished.status),
        exited_at: finished.map(|finished| finished.timestamp()),
    }
}
