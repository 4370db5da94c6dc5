//! What a container is asked and told while it runs.

use std::{path::PathBuf, sync::Arc};

use corten_api::containerd::{
    runc::v1::{CheckpointOptions as RequestedCheckpoint, ProcessDetails},
    task::v3::{
        CheckpointTaskRequest, CloseIoRequest, ConnectRequest, ConnectResponse, PidsRequest, PidsResponse,
        ResizePtyRequest, StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest,
        WaitRequest, WaitResponse,
    },
    v1::types::ProcessInfo,
};
use corten_runtime_runc::CheckpointOptions;
use corten_types::{Error, Result};
use prost::Message;

use super::Shim;
use crate::{
    events::any,
    log,
    process::{Doing, Phase},
};

impl Shim {
    pub(super) async fn state(self: Arc<Self>, request: StateRequest) -> Result<StateResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let mut status = process.status();
        let whole = container.init.status();
        // When the container is paused, so is everything in it.
        if matches!(container.init.phase(), Phase::Pausing | Phase::Paused | Phase::Resuming) {
            status = whole;
        }
        let finished = process.finished();
        let names = &process.names;
        Ok(StateResponse {
            id: process.id.clone(),
            bundle: container.bundle.display().to_string(),
            pid: process.pid(),
            status: status.into(),
            stdin: names.stdin.clone(),
            stdout: names.stdout.clone(),
            stderr: names.stderr.clone(),
            terminal: names.terminal,
            exit_status: finished.map_or(0, |finished| finished.status),
            exited_at: finished.map(|finished| finished.timestamp()),
            exec_id: request.exec_id,
        })
    }

    pub(super) async fn wait(self: Arc<Self>, request: WaitRequest) -> Result<WaitResponse> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let finished = process.wait().await;
        Ok(WaitResponse { exit_status: finished.status, exited_at: Some(finished.timestamp()) })
    }

    pub(super) async fn resize_pty(self: Arc<Self>, request: ResizePtyRequest) -> Result<()> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let narrow = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        process.resize(narrow(request.width), narrow(request.height))
    }

    pub(super) async fn close_io(self: Arc<Self>, request: CloseIoRequest) -> Result<()> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(())
    }

    pub(super) async fn pids(self: Arc<Self>, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.container(&request.id)?;
        let pids = match container.cgroup() {
            // The kernel's own list, without running the runtime.
            Some(cgroup) => cgroup.pids(),
            None if container.init.finished().is_some() => Vec::new(),
            None => container.runtime.ps(&container.id).await.map_err(Error::from)?,
        };
        let processes = pids
            .into_iter()
            .map(|pid| ProcessInfo {
                pid,
                info: container.exec_of(pid).map(|exec_id| any(&ProcessDetails { exec_id })),
            })
            .collect();
        Ok(PidsResponse { processes })
    }

    pub(super) async fn stats(self: Arc<Self>, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.container(&request.id)?;
        let cgroup = container.cgroup().ok_or_else(|| Error::not_found("cgroup does not exist"))?;
        Ok(StatsResponse { stats: Some(cgroup.metrics()?) })
    }

    pub(super) async fn update(self: Arc<Self>, request: UpdateTaskRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        let phase = container.init.phase();
        if matches!(phase, Phase::Stopped | Phase::Deleting(_) | Phase::Deleted) {
            return Err(Doing::Update.refusal(phase));
        }
        let resources = request
            .resources
            .as_ref()
            .map(|any| any.value.as_slice())
            .filter(|json| !json.is_empty())
            .ok_or_else(|| Error::invalid_argument("an update needs resources"))?;
        container.runtime.update(&container.id, resources).await.map_err(Error::from)
    }

    pub(super) async fn checkpoint(self: Arc<Self>, request: CheckpointTaskRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        match container.init.phase() {
            Phase::Running | Phase::Pausing | Phase::Paused | Phase::Resuming => {}
            other => return Err(Doing::Checkpoint.refusal(other)),
        }
        let requested = match &request.options {
            Some(any) => RequestedCheckpoint::decode(any.value.as_slice()).map_err(|error| {
                Error::invalid_argument("decode the checkpoint options").with_source(error)
            })?,
            None => RequestedCheckpoint::default(),
        };
        let present = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        let own_work = container.bundle.join("work/criu-work");
        let given_work = present(&requested.work_path);
        let work = given_work.clone().unwrap_or_else(|| own_work.clone());
        let options = CheckpointOptions {
            image_path: present(&request.path),
            work_path: Some(work.clone()),
            parent_path: present(&requested.parent_path),
            open_tcp: requested.open_tcp,
            external_unix_sockets: requested.external_unix_sockets,
            terminal: requested.terminal,
            file_locks: requested.file_locks,
            // As containerd's shim: the mode is not passed on.
            cgroups_mode: String::new(),
            empty_namespaces: requested.empty_namespaces,
            leave_running: !requested.exit,
        };
        let done = container.runtime.checkpoint(&container.id, &options).await;
        let dump_log = container.bundle.join("criu-dump.log");
        let failed = done.map_err(|error| {
            if let Err(second) = std::fs::copy(work.join("dump.log"), &dump_log) {
                log::debug(format_args!("keep the log of criu: {second}"));
            }
            let text = error.to_string();
            let first_line = text.lines().next().unwrap_or_default();
            Error::unknown(format!("{first_line} path= {}", dump_log.display()))
        });
        if given_work.is_none() {
            // It is the shim's own, and made again by the next checkpoint.
            let _ = std::fs::remove_dir_all(&own_work);
        }
        failed
    }

    pub(super) async fn connect(self: Arc<Self>, request: ConnectRequest) -> Result<ConnectResponse> {
        let task_pid = self.container(&request.id).map_or(0, |container| container.init.pid());
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, version: String::new() })
    }
}
