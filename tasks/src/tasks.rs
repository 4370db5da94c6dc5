//! The tasks of all namespaces: the surface of this crate.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use corten_api::containerd::task::v3 as wire;
use corten_events::Envelope;
use corten_types::{Any, Error, ErrorKind, Namespace, Result, validate_identifier};
use futures::{StreamExt, stream};
use prost::Message;

use crate::{
    blocking,
    convert::{any_from_wire, any_to_wire, time_from_wire},
    inner::Inner,
    model::{
        CreateOptions, Created, ExecOptions, Exit, Metric, Process, ProcessInfo, Recovery, RuntimeInfo,
        Status,
    },
    observe,
    options::Options,
    registry::{Key, Listed, not_found},
    task::Task,
};

/// How many shims are asked at the same time for a list.
const MAX_PARALLEL: usize = 64;
/// How long [`Tasks::shutdown`] waits for what is still being done.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const NO_PROCESS: &str = "";

/// The running tasks, their bundles and their shims.
///
/// `exec_id` is empty where the task's first process is meant. A future that is dropped stops waiting; what it began is
/// finished all the same. Dropping the value lets go of all shims; they and their containers live on, and
/// [`recover`](Self::recover) finds them again.
pub struct Tasks {
    inner: Arc<Inner>,
}

impl Tasks {
    /// Tasks below `settings.state`. Nothing is read or started; see [`recover`](Self::recover).
    #[must_use]
    pub fn new(settings: Options) -> Self {
        Self { inner: Arc::new(Inner::new(settings)) }
    }

    /// Registers the tasks of an earlier daemon, and reconnects to their shims in the background.
    ///
    /// When it returns, every one of them is known: lookups wait for its shim, up to `timeouts.load`, and then fail with
    /// [`Unavailable`](ErrorKind::Unavailable) until it answers. Dead shims are cleaned up, with events.
    ///
    /// # Errors
    /// By class of the system's error, if a folder cannot be read.
    pub async fn recover(&self) -> Result<Recovery> {
        self.inner.recover().await
    }

    /// Waits until every shim that [`recover`](Self::recover) found has answered, was cleaned up, or has had its time.
    pub async fn recovered(&self) {
        self.inner.recovered().await;
    }

    /// Lets go of all shims and waits for what is still being done, 10 s at most. Containers run on.
    pub async fn shutdown(&self) {
        self.inner.stop();
        if tokio::time::timeout(DRAIN_LIMIT, self.inner.tracker.wait()).await.is_err() {
            tracing::warn!("some work on tasks was not finished in {DRAIN_LIMIT:?}");
        }
    }

    /// Looks at an event that a shim forwarded, before it is published. `false` if it must not be: it is a repetition.
    #[must_use]
    pub fn observe(&self, envelope: &Envelope) -> bool {
        observe::observe(&self.inner, envelope)
    }

    /// Makes a task: its bundle, its shim, its container, not started yet (K01).
    ///
    /// # Errors
    /// After any of them nothing is left: no bundle, mount, shim or socket.
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument): the id or the runtime's name is malformed.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): the task, or a bundle of that name.
    /// - [`NotFound`](ErrorKind::NotFound): the shim's program is not installed.
    /// - [`Unknown`](ErrorKind::Unknown): options of another type, or the runtime refused; the message is its own.
    pub async fn create(&self, options: CreateOptions) -> Result<Created> {
        let inner = Arc::clone(&self.inner);
        self.to_the_end(async move { inner.create(options).await }).await
    }

    /// Starts the first process or an exec, and returns its pid (K07).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task or exec. Else the shim's own.
    pub async fn start(&self, namespace: &Namespace, id: &str, exec_id: &str) -> Result<u32> {
        let task = self.inner.find(namespace, id).await?;
        let request = wire::StartRequest { id: id.to_owned(), exec_id: exec_id.to_owned() };
        let answer: wire::StartResponse = self.ask(&task, "Start", request).await?;
        if answer.pid != 0 {
            return Ok(answer.pid);
        }
        Ok(self.get(namespace, id, exec_id).await?.pid)
    }

    /// Deletes a task that is not running, with its bundle, and ends its shim if that has no other (K08).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task, or its shim died and it was cleaned up. Else the shim's own, for
    /// example that it is still running; then nothing changed.
    pub async fn delete(&self, namespace: &Namespace, id: &str) -> Result<Exit> {
        let (inner, key) = (Arc::clone(&self.inner), Key::new(namespace, id));
        self.to_the_end(async move { inner.delete(&key).await }).await
    }

    /// Deletes an exec that is not running (K09).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task or exec. Else the shim's own.
    pub async fn delete_process(&self, namespace: &Namespace, id: &str, exec_id: &str) -> Result<Exit> {
        if exec_id.is_empty() {
            return Err(Error::invalid_argument("exec id cannot be empty"));
        }
        let task = self.inner.find(namespace, id).await?;
        let request = wire::DeleteRequest { id: id.to_owned(), exec_id: exec_id.to_owned() };
        let answer = self.ask(&task, "Delete", request).await?;
        task.note_exec_ended(exec_id);
        Ok(exit_from_wire(&answer))
    }

    /// The state of the first process or an exec (K10).
    ///
    /// # Errors
    /// - [`NotFound`](ErrorKind::NotFound): no such task or exec.
    /// - [`DeadlineExceeded`](ErrorKind::DeadlineExceeded): its shim did not answer within `timeouts.state`.
    /// - [`Unavailable`](ErrorKind::Unavailable): its shim has not answered since the daemon started.
    pub async fn get(&self, namespace: &Namespace, id: &str, exec_id: &str) -> Result<Process> {
        let task = self.inner.find(namespace, id).await?;
        self.state(&task, exec_id).await
    }

    /// The states of a namespace's tasks by id (K11). A task whose shim fails or does not answer within `timeouts.state` is
    /// left out; one that is still being reconnected then is listed with an unknown status.
    pub async fn list(&self, namespace: &Namespace) -> Vec<Process> {
        let listed = self.inner.registry.list(namespace);
        let states = stream::iter(listed).map(|listed| self.listed(listed)).buffered(MAX_PARALLEL);
        states.filter_map(std::future::ready).collect().await
    }

    /// Sends a signal to the first process, to `all` of the container, or to an exec (K13).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task or process, or it has ended. Else the shim's own.
    pub async fn kill(
        &self,
        namespace: &Namespace,
        id: &str,
        exec_id: &str,
        signal: u32,
        all: bool,
    ) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        // For an exec there is no `all` (K13).
        let all = all && exec_id.is_empty();
        let request = wire::KillRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), signal, all };
        self.ask(&task, "Kill", request).await
    }

    /// Registers a further process, without starting it (K14).
    ///
    /// # Errors
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument): `exec_id` is empty or malformed.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): the exec.
    /// - [`NotFound`](ErrorKind::NotFound): no such task. Else the shim's own.
    pub async fn exec(
        &self,
        namespace: &Namespace,
        id: &str,
        exec_id: &str,
        options: ExecOptions,
    ) -> Result<()> {
        if exec_id.is_empty() {
            return Err(Error::invalid_argument("exec id cannot be empty"));
        }
        validate_identifier("exec id", exec_id)?;
        let task = self.inner.find(namespace, id).await?;
        let request = wire::ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            terminal: options.terminal,
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            spec: options.spec.as_ref().map(any_to_wire),
        };
        self.ask(&task, "Exec", request).await
    }

    /// Sets the size of a process's pseudo-terminal, in characters (K16).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task or exec. Else the shim's own.
    pub async fn resize(
        &self,
        namespace: &Namespace,
        id: &str,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        let request =
            wire::ResizePtyRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), width, height };
        self.ask(&task, "ResizePty", request).await
    }

    /// Closes a process's stdin if `stdin` is set; else only looks the task up (K16).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task or exec. Else the shim's own.
    pub async fn close_io(&self, namespace: &Namespace, id: &str, exec_id: &str, stdin: bool) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        if !stdin {
            return Ok(());
        }
        let request = wire::CloseIoRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), stdin };
        self.ask(&task, "CloseIO", request).await
    }

    /// Freezes a container (K17).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task. Else the shim's own.
    pub async fn pause(&self, namespace: &Namespace, id: &str) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        self.ask(&task, "Pause", wire::PauseRequest { id: id.to_owned() }).await
    }

    /// Thaws a container (K17).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task. Else the shim's own.
    pub async fn resume(&self, namespace: &Namespace, id: &str) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        self.ask(&task, "Resume", wire::ResumeRequest { id: id.to_owned() }).await
    }

    /// The processes inside a container (K18).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task. Else the shim's own.
    pub async fn pids(&self, namespace: &Namespace, id: &str) -> Result<Vec<ProcessInfo>> {
        let task = self.inner.find(namespace, id).await?;
        let answer: wire::PidsResponse =
            self.ask(&task, "Pids", wire::PidsRequest { id: id.to_owned() }).await?;
        let process = |process: corten_api::containerd::v1::types::ProcessInfo| ProcessInfo {
            pid: process.pid,
            info: process.info.map(any_from_wire),
        };
        Ok(answer.processes.into_iter().map(process).collect())
    }

    /// Writes a checkpoint into the folder `path` (K19). Storing it is the caller's.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task. Else the shim's own.
    pub async fn checkpoint(
        &self,
        namespace: &Namespace,
        id: &str,
        path: &Path,
        options: Option<Any>,
    ) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        let request = wire::CheckpointTaskRequest {
            id: id.to_owned(),
            path: path.display().to_string(),
            options: options.as_ref().map(any_to_wire),
        };
        self.ask(&task, "Checkpoint", request).await
    }

    /// Changes a container's limits (K20). `resources` is JSON in an `Any`, handed on as it is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): no such task. Else the shim's own.
    pub async fn update(
        &self,
        namespace: &Namespace,
        id: &str,
        resources: Option<Any>,
        annotations: BTreeMap<String, String>,
    ) -> Result<()> {
        let task = self.inner.find(namespace, id).await?;
        let request = wire::UpdateTaskRequest {
            id: id.to_owned(),
            resources: resources.as_ref().map(any_to_wire),
            annotations,
        };
        self.ask(&task, "Update", request).await
    }

    /// The counters of a namespace's tasks whose id is `wanted`, by id (K21). Tasks whose shim fails or does not answer within
    /// `timeouts.state` are left out: stopped ones have none.
    pub async fn metrics(&self, namespace: &Namespace, wanted: impl Fn(&str) -> bool) -> Vec<Metric> {
        let tasks = self.inner.registry.list(namespace).into_iter().filter_map(|listed| match listed {
            Listed::Live(task) if wanted(&task.key.id) => Some(task),
            _ => None,
        });
        let tasks: Vec<Arc<Task>> = tasks.collect();
        let metrics = stream::iter(tasks).map(|task| self.metric(task)).buffered(MAX_PARALLEL);
        metrics.filter_map(std::future::ready).collect().await
    }

    /// Waits for the end of the first process or an exec; at once if it has ended (K22). The pid of the answer is 0.
    ///
    /// # Errors
    /// - [`NotFound`](ErrorKind::NotFound): no such task or exec.
    /// - [`Unavailable`](ErrorKind::Unavailable): the shim died; the event says with what the process ended.
    pub async fn wait(&self, namespace: &Namespace, id: &str, exec_id: &str) -> Result<Exit> {
        self.inner.find(namespace, id).await?.wait(exec_id).await
    }

    /// What the shim of `runtime` (a name or an absolute path) says about itself (H19).
    ///
    /// # Errors
    /// As [`create`](Self::create) for the name; [`Unknown`](ErrorKind::Unknown) with what the shim printed if it failed.
    pub async fn runtime_info(&self, runtime: &str, options: Option<&Any>) -> Result<RuntimeInfo> {
        let shim = self.inner.lookup.find(runtime)?;
        self.inner.shim_info(&shim, options).await
    }

    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if self.inner.stopping.is_cancelled() {
            return Err(Error::unavailable("the daemon is shutting down"));
        }
        let outcome = self.inner.tracker.spawn(work).await;
        outcome.unwrap_or_else(|failure| Err(Error::internal("work on a task failed").with_source(failure)))
    }

    async fn ask<Req, Resp>(&self, task: &Arc<Task>, method: &'static str, request: Req) -> Result<Resp>
    where
        Req: Message + 'static,
        Resp: Message + Default + 'static,
    {
        match task.connection.call(&task.key.namespace, method, request).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.inner.explain(task, error).await),
        }
    }

    async fn state(&self, task: &Arc<Task>, exec_id: &str) -> Result<Process> {
        let id = if exec_id.is_empty() { task.key.id.clone() } else { exec_id.to_owned() };
        match task.connection.state(&task.key, exec_id, self.inner.settings.timeouts.state).await {
            Ok(state) => Ok(Process {
                id,
                pid: state.pid,
                status: Status::from_wire(state.status),
                stdin: state.stdin,
                stdout: state.stdout,
                stderr: state.stderr,
                terminal: state.terminal,
                exit_status: state.exit_status,
                exited_at: time_from_wire(state.exited_at),
            }),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::DeadlineExceeded | ErrorKind::ResourceExhausted => {
                    Err(error)
                }
                ErrorKind::Unavailable => Err(self.inner.explain(task, error).await),
                // The shim is there and the task too; only its state is not known (K11).
                _ => {
                    tracing::error!(key = ?task.key, error = error.chain(), "the shim does not know the state of a task");
                    Ok(Process { id, ..Process::default() })
                }
            },
        }
    }

    async fn listed(&self, listed: Listed) -> Option<Process> {
        let task = match listed {
            Listed::Live(task) => task,
            Listed::Reconnecting(key) => {
                let limit = self.inner.settings.timeouts.state;
                match tokio::time::timeout(limit, self.inner.registry.find(&key)).await {
                    Ok(Ok(task)) => task,
                    Ok(Err(error)) if error.kind() == ErrorKind::NotFound => return None,
                    // To leave it out would tell the client that it is dead.
                    _ => return Some(Process { id: key.id, ..Process::default() }),
                }
            }
        };
        let state = self.state(&task, NO_PROCESS).await;
        state.inspect_err(|error| tracing::warn!(key = ?task.key, error = error.chain(), "not listed")).ok()
    }

    async fn metric(&self, task: Arc<Task>) -> Option<Metric> {
        let at = SystemTime::now();
        let request = wire::StatsRequest { id: task.key.id.clone() };
        let limit = self.inner.settings.timeouts.state;
        let answer: Result<wire::StatsResponse> =
            task.connection.call_within(&task.key.namespace, "Stats", request, limit).await;
        match answer {
            Ok(answer) => Some(Metric { id: task.key.id.clone(), at, data: answer.stats.map(any_from_wire) }),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(key = ?task.key, error = error.chain(), "no metrics of a task");
                }
                None
            }
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

impl Inner {
    async fn delete(self: &Arc<Self>, key: &Key) -> Result<Exit> {
        let task = self.registry.find(key).await?;
        let request = wire::DeleteRequest { id: key.id.clone(), exec_id: String::new() };
        let answer: Result<wire::DeleteResponse> =
            task.connection.call(&key.namespace, "Delete", request).await;
        let outcome = match answer {
            Ok(answer) => Ok(exit_from_wire(&answer)),
            // The shim has no such container: what is left of the task goes all the same.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            Err(error) => return Err(self.explain(&task, error).await),
        };
        let Some(reservation) = self.registry.leave(&task) else { return Err(not_found(key)) };
        let limit = self.settings.timeouts.shutdown;
        // Before the bundle goes: a daemon that dies in between must find the shim again.
        if let Err(error) = task.connection.shut_down(key, limit).await {
            tracing::warn!(?key, error = error.chain(), "the shim was not told to end");
        }
        let bundle = task.bundle.clone();
        let removed = blocking(move || bundle.delete()).await;
        if let Err(error) = &removed {
            tracing::error!(?key, error = error.chain(), "cannot remove the bundle of a deleted task");
        }
        self.deactivate(key).await;
        // The name is free when the shim has let go of its socket, or a new task would be given the dying one.
        let inner = Arc::clone(self);
        self.tracker.spawn(async move {
            if inner.registry.count_at(&task.connection.address) == 0
                && tokio::time::timeout(limit, task.connection.closed()).await.is_err()
            {
                tracing::warn!(key = ?task.key, "the shim has not ended after its last task");
            }
            drop(reservation);
        });
        outcome
    }
}

fn exit_from_wire(answer: &wire::DeleteResponse) -> Exit {
    Exit { pid: answer.pid, status: answer.exit_status, at: time_from_wire(answer.exited_at) }
}
