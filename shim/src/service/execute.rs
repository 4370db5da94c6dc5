//! Exec: further processes in a container.

use std::{sync::Arc, time::SystemTime};

use corten_api::containerd::{events::TaskExecAdded, task::v3::ExecProcessRequest};
use corten_runtime_runc::{ExecOptions, read_pid_file};
use corten_types::{Error, Result, validate_identifier};
use serde_json::Value;
use tokio::sync::oneshot;

use super::Shim;
use crate::{
    container::{Container, Exec},
    process::{Doing, Phase, Process},
    reaper::Exit,
    stdio::{self, StreamNames},
};

/// The status of an exec that did not start: nobody may wait for it for ever.
const NOT_STARTED: u32 = 255;

impl Shim {
    pub(super) async fn exec(self: Arc<Self>, request: ExecProcessRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        // The id names files in the bundle.
        validate_identifier("exec id", &request.exec_id)?;
        let names = StreamNames {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let specification = specification(request.spec.as_ref(), request.terminal)?;
        let process = Arc::new(Process::new(&request.exec_id, names));
        container.add_exec(Exec { process, specification })?;
        self.publisher
            .publish(&TaskExecAdded { container_id: container.id.clone(), exec_id: request.exec_id });
        Ok(())
    }

    /// Runs an exec that was added, and returns where its end will be told.
    pub(super) async fn run_exec(
        &self,
        container: &Container,
        exec: &Exec,
    ) -> Result<oneshot::Receiver<Exit>> {
        let process = &exec.process;
        process.enter(Phase::Created, Phase::Starting, Doing::Start)?;
        let started = self.run_entered(container, exec).await;
        if started.is_err() {
            process.set_finished(NOT_STARTED, SystemTime::now());
        }
        started
    }

    async fn run_entered(&self, container: &Container, exec: &Exec) -> Result<oneshot::Receiver<Exit>> {
        let process = &exec.process;
        let mut streams = stdio::prepare(&process.names, self.owner(container)).await?;
        let io = streams.take_io();
        let pid_file = container.bundle.join(format!("{}.pid", process.id));
        let options = ExecOptions {
            pid_file: Some(pid_file.clone()),
            console_socket: streams.console.as_ref().map(|socket| socket.path().to_owned()),
            detach: true,
        };
        let expected = self.reaper.expect_start();
        container
            .runtime
            .exec(&container.id, &exec.specification, &options, io)
            .await
            .map_err(Error::from)?;
        process.attach(streams.attach().await?);
        process.open_stdin()?;
        let pid = read_pid_file(&pid_file).map_err(|error| {
            Error::unknown("failed to retrieve OCI runtime exec pid").with_source(Error::from(error))
        })?;
        process.set_pid(pid);
        Ok(expected.claim(pid))
    }
}

/// The OCI process of a request, with the terminal that the request asks for. What this code does not know stays in it.
fn specification(any: Option<&prost_types::Any>, terminal: bool) -> Result<Vec<u8>> {
    let invalid = || Error::invalid_argument("the process to run is no JSON object");
    let bytes = any.map(|any| any.value.as_slice()).unwrap_or_default();
    let mut process: Value = serde_json::from_slice(bytes).map_err(|error| invalid().with_source(error))?;
    process.as_object_mut().ok_or_else(invalid)?.insert("terminal".to_owned(), Value::Bool(terminal));
    serde_json::to_vec(&process).map_err(|error| Error::internal("encode the process").with_source(error))
}
