//! `containerd.services.tasks.v1.Tasks` (§1.14 of the behaviour table).

use std::{borrow::Cow, path::Path, sync::Arc};

use corten_api::{
    containerd::{
        runc::v1::CheckpointOptions,
        services::tasks::v1::{
            CheckpointTaskRequest, CheckpointTaskResponse, CloseIoRequest, CreateTaskRequest,
            CreateTaskResponse, DeleteProcessRequest, DeleteResponse, DeleteTaskRequest, ExecProcessRequest,
            GetRequest, GetResponse, KillRequest, ListPidsRequest, ListPidsResponse, ListTasksRequest,
            ListTasksResponse, MetricsRequest, MetricsResponse, PauseTaskRequest, ResizePtyRequest,
            ResumeTaskRequest, StartRequest, StartResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
            tasks_server::{Tasks as TasksRpc, TasksServer},
        },
        types::Metric as WireMetric,
        v1::types::{Process as WireProcess, ProcessInfo as WireProcessInfo},
    },
    convert::{any_from_wire, any_to_wire, message_of, timestamp, timestamp_or_go_zero},
};
use corten_filter::{Fields, Filters};
use corten_metadata::{Container, Metadata};
use corten_tasks::{CreateOptions, ExecOptions, Exit, Metric, Process, Tasks};
use corten_types::{Error, ErrorKind, Namespace, Result};
use tonic::{Request, metadata::MetadataMap};

use super::{
    answer::{Answer, respond},
    serve,
};
use crate::request::{namespace, view};

/// Runs containers. Every call needs the container's record (K25).
#[derive(Clone)]
pub struct TasksService {
    metadata: Metadata,
    tasks: Arc<Tasks>,
}

impl TasksService {
    /// Runs the containers of `metadata` as `tasks`.
    pub fn new(metadata: Metadata, tasks: Arc<Tasks>) -> Self {
        Self { metadata, tasks }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> TasksServer<Self> {
        serve!(TasksServer, self)
    }

    async fn container(&self, headers: &MetadataMap, id: &str) -> Result<Container> {
        view(&self.metadata, headers)?.containers().get(id).await
    }

    /// The namespace of a request about a container that exists.
    async fn known(&self, headers: &MetadataMap, id: &str) -> Result<Namespace> {
        self.container(headers, id).await?;
        namespace(headers)
    }
}

#[tonic::async_trait]
impl TasksRpc for TasksService {
    async fn checkpoint(&self, request: Request<CheckpointTaskRequest>) -> Answer<CheckpointTaskResponse> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let CheckpointTaskRequest { container_id, options, .. } = request.into_inner();
            let options = options.map(any_from_wire);
            let path = match &options {
                None => String::new(),
                Some(options) => {
                    message_of::<CheckpointOptions>(options)
                        .map_err(|error| Error::unknown("invalid task checkpoint option").with_source(error))?
                        .image_path
                }
            };
            if path.is_empty() {
                return Err(Error::unimplemented(
                    "checkpoints are not stored as content yet: name a folder in image_path",
                ));
            }
            self.tasks.checkpoint(&namespace, &container_id, Path::new(&path), options).await?;
            Ok(CheckpointTaskResponse::default())
        })
        .await
    }

    async fn close_io(&self, request: Request<CloseIoRequest>) -> Answer<()> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let CloseIoRequest { container_id, exec_id, stdin } = request.into_inner();
            self.tasks.close_io(&namespace, &container_id, &exec_id, stdin).await
        })
        .await
    }

    async fn create(&self, request: Request<CreateTaskRequest>) -> Answer<CreateTaskResponse> {
        respond(async {
            let container = self.container(request.metadata(), &request.get_ref().container_id).await?;
            let namespace = namespace(request.metadata())?;
            let options = create_options(namespace, container, request.into_inner())?;
            let container_id = options.id.clone();
            let created = self.tasks.create(options).await?;
            Ok(CreateTaskResponse { container_id, pid: created.pid })
        })
        .await
    }

    async fn delete(&self, request: Request<DeleteTaskRequest>) -> Answer<DeleteResponse> {
        respond(async {
            let id = &request.get_ref().container_id;
            let namespace = self.known(request.metadata(), id).await?;
            let exit = self.tasks.delete(&namespace, id).await?;
            Ok(deleted(String::new(), exit))
        })
        .await
    }

    async fn delete_process(&self, request: Request<DeleteProcessRequest>) -> Answer<DeleteResponse> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let DeleteProcessRequest { container_id, exec_id } = request.into_inner();
            let exit = self.tasks.delete_process(&namespace, &container_id, &exec_id).await?;
            Ok(deleted(exec_id, exit))
        })
        .await
    }

    async fn exec(&self, request: Request<ExecProcessRequest>) -> Answer<()> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let request = request.into_inner();
            let options = ExecOptions {
                spec: request.spec.map(any_from_wire),
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            };
            self.tasks.exec(&namespace, &request.container_id, &request.exec_id, options).await
        })
        .await
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        respond(async {
            let GetRequest { container_id, exec_id } = request.get_ref();
            let namespace = self.known(request.metadata(), container_id).await?;
            let process = self.tasks.get(&namespace, container_id, exec_id).await?;
            Ok(GetResponse { process: Some(process_to_wire(process)) })
        })
        .await
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<()> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let KillRequest { container_id, exec_id, signal, all } = request.into_inner();
            self.tasks.kill(&namespace, &container_id, &exec_id, signal, all).await
        })
        .await
    }

    /// The filter is not looked at (K11).
    async fn list(&self, request: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        respond(async {
            let processes = self.tasks.list(&namespace(request.metadata())?).await;
            Ok(ListTasksResponse { tasks: processes.into_iter().map(process_to_wire).collect() })
        })
        .await
    }

    async fn list_pids(&self, request: Request<ListPidsRequest>) -> Answer<ListPidsResponse> {
        respond(async {
            let id = &request.get_ref().container_id;
            let namespace = self.known(request.metadata(), id).await?;
            let processes = self.tasks.pids(&namespace, id).await?.into_iter();
            let to_wire = |process: corten_tasks::ProcessInfo| WireProcessInfo {
                pid: process.pid,
                info: process.info.map(any_to_wire),
            };
            Ok(ListPidsResponse { processes: processes.map(to_wire).collect() })
        })
        .await
    }

    async fn metrics(&self, request: Request<MetricsRequest>) -> Answer<MetricsResponse> {
        respond(async {
            let namespace = namespace(request.metadata())?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            let wanted = |id: &str| filters.matches(&Counted { id, namespace: namespace.as_str() });
            let metrics = self.tasks.metrics(&namespace, wanted).await;
            Ok(MetricsResponse { metrics: metrics.into_iter().map(metric_to_wire).collect() })
        })
        .await
    }

    async fn pause(&self, request: Request<PauseTaskRequest>) -> Answer<()> {
        respond(async {
            let id = &request.get_ref().container_id;
            self.tasks.pause(&self.known(request.metadata(), id).await?, id).await
        })
        .await
    }

    async fn resize_pty(&self, request: Request<ResizePtyRequest>) -> Answer<()> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let ResizePtyRequest { container_id, exec_id, width, height } = request.into_inner();
            self.tasks.resize(&namespace, &container_id, &exec_id, width, height).await
        })
        .await
    }

    async fn resume(&self, request: Request<ResumeTaskRequest>) -> Answer<()> {
        respond(async {
            let id = &request.get_ref().container_id;
            self.tasks.resume(&self.known(request.metadata(), id).await?, id).await
        })
        .await
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<StartResponse> {
        respond(async {
            let StartRequest { container_id, exec_id } = request.get_ref();
            let namespace = self.known(request.metadata(), container_id).await?;
            Ok(StartResponse { pid: self.tasks.start(&namespace, container_id, exec_id).await? })
        })
        .await
    }

    async fn update(&self, request: Request<UpdateTaskRequest>) -> Answer<()> {
        respond(async {
            let namespace = self.known(request.metadata(), &request.get_ref().container_id).await?;
            let UpdateTaskRequest { container_id, resources, annotations } = request.into_inner();
            let resources = resources.map(any_from_wire);
            self.tasks.update(&namespace, &container_id, resources, annotations).await
        })
        .await
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitResponse> {
        respond(async {
            let WaitRequest { container_id, exec_id } = request.get_ref();
            let namespace = self.known(request.metadata(), container_id).await?;
            let exit = self.tasks.wait(&namespace, container_id, exec_id).await?;
            Ok(WaitResponse { exit_status: exit.status, exited_at: Some(timestamp_or_go_zero(exit.at)) })
        })
        .await
    }
}

/// What a task is made from: the container's record, and what the request adds (K01-K06).
fn create_options(
    namespace: Namespace,
    container: Container,
    request: CreateTaskRequest,
) -> Result<CreateOptions> {
    if request.checkpoint.is_some() {
        return Err(Error::unimplemented(
            "tasks cannot be restored from a checkpoint in the content store yet",
        ));
    }
    let spec = container.spec.ok_or_else(|| {
        Error::new(ErrorKind::FailedPrecondition, format!("container {} has no spec", container.id))
    })?;
    let task_api = (!request.task_api_address.is_empty())
        .then_some((request.task_api_address, request.task_api_version));
    Ok(CreateOptions {
        runtime_path: request.runtime_path,
        runtime_options: container.runtime.options,
        task_options: request.options.map(any_from_wire),
        rootfs: request.rootfs.into_iter().map(Into::into).collect(),
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
        sandbox_id: container.sandbox,
        task_api,
        ..CreateOptions::new(namespace, container.id, container.runtime.name, spec)
    })
}

/// The id is that of an exec, and empty for the first process (K08, K09).
fn deleted(id: String, exit: Exit) -> DeleteResponse {
    DeleteResponse {
        id,
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Some(timestamp_or_go_zero(exit.at)),
    }
}

/// The id of the container is left out (K10); a process that runs exited in the year 1 (X10).
fn process_to_wire(process: Process) -> WireProcess {
    WireProcess {
        container_id: String::new(),
        id: process.id,
        pid: process.pid,
        status: process.status as i32,
        stdin: process.stdin,
        stdout: process.stdout,
        stderr: process.stderr,
        terminal: process.terminal,
        exit_status: process.exit_status,
        exited_at: Some(timestamp_or_go_zero(process.exited_at)),
    }
}

fn metric_to_wire(metric: Metric) -> WireMetric {
    WireMetric { timestamp: Some(timestamp(metric.at)), id: metric.id, data: metric.data.map(any_to_wire) }
}

/// A task as filters of metrics see it (K21).
struct Counted<'a> {
    id: &'a str,
    namespace: &'a str,
}

impl Fields for Counted<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => Some(Cow::Borrowed(self.id)),
            ["namespace", ..] => Some(Cow::Borrowed(self.namespace)),
            _ => None,
        }
    }
}
