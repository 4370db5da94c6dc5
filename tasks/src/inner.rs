//! What all operations share.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use corten_api::containerd::events::{TaskDelete, TaskExit};
use corten_types::{Any, Error, ErrorKind, Namespace, Result};
use prost::Message;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bootstrap::Stdin,
    bundle::Layout,
    connection::Connections,
    convert::time_to_wire,
    exits::{ExitKey, Exits},
    lookup::Lookup,
    model::Exit,
    options::Options,
    registry::{Key, Registry},
    task::Task,
};

const EXIT_TOPIC: &str = "/tasks/exit";
const DELETE_TOPIC: &str = "/tasks/delete";
/// How many clean-ups after dead shims run at the same time.
const MAX_BURIALS: usize = 16;
/// How long a broken call waits for its connection to be known as closed.
const CLOSE_NOTICE: std::time::Duration = std::time::Duration::from_millis(200);

pub(crate) struct Inner {
    pub(crate) settings: Options,
    pub(crate) layout: Layout,
    pub(crate) lookup: Lookup,
    pub(crate) registry: Arc<Registry>,
    pub(crate) connections: Connections,
    pub(crate) exits: Exits,
    /// What each shim's `start` understands, where it is not the usual.
    pub(crate) stdin_forms: Mutex<HashMap<PathBuf, Stdin>>,
    /// How many dead shims are cleaned up after at the same time: each takes processes.
    pub(crate) burials: Semaphore,
    /// Everything that was spawned and must be waited for at the end.
    pub(crate) tracker: TaskTracker,
    /// The daemon is going down: closed connections mean nothing any more.
    pub(crate) stopping: CancellationToken,
    /// How many shims of an earlier daemon are still within their deadline.
    pub(crate) recovering: watch::Sender<usize>,
}

impl Inner {
    pub(crate) fn new(settings: Options) -> Self {
        Self {
            layout: Layout::new(&settings.root, &settings.state),
            lookup: Lookup::new(settings.shim_overrides.clone(), settings.search_dirs.clone()),
            registry: Arc::default(),
            connections: Connections::default(),
            exits: Exits::default(),
            stdin_forms: Mutex::default(),
            burials: Semaphore::new(MAX_BURIALS),
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            recovering: watch::channel(0).0,
            settings,
        }
    }

    /// Lets go of all shims without harm: they and their containers live on.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
        self.registry.clear();
        self.connections.close_all();
        self.tracker.close();
    }

    /// From now on the end of the task's connection is the death of its shim.
    pub(crate) fn supervise(self: &Arc<Self>, task: &Arc<Task>) {
        let (inner, task) = (Arc::downgrade(self), Arc::clone(task));
        let stopping = self.stopping.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = task.gone.cancelled() => return,
                () = task.connection.closed() => {}
            }
            let Some(inner) = inner.upgrade().filter(|inner| !inner.stopping.is_cancelled()) else { return };
            if let Some(reservation) = inner.registry.bury(&task) {
                tracing::warn!(key = ?task.key, "the shim is gone; cleaning up after it");
                inner.bury(crate::burial::Dead::from_task(&task), reservation).await;
            }
        });
    }

    /// What a failed call of a task's shim means for the caller: once the shim is dead and its task cleaned up, the task
    /// is not found.
    pub(crate) async fn explain(&self, task: &Task, error: Error) -> Error {
        if error.kind() != ErrorKind::Unavailable
            || tokio::time::timeout(CLOSE_NOTICE, task.connection.closed()).await.is_err()
        {
            return error;
        }
        match self.registry.find(&task.key).await {
            Ok(_) => error,
            Err(after) => after,
        }
    }

    /// Publishes the exit of a process, unless it was published before.
    pub(crate) fn publish_exit(&self, key: &Key, process: &str, exit: Exit) {
        let record = ExitKey { task: key.clone(), process: process.to_owned(), pid: exit.pid };
        if !self.exits.record(record) {
            return;
        }
        let event = TaskExit {
            container_id: key.id.clone(),
            id: process.to_owned(),
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exit.at.map(time_to_wire),
        };
        self.publish(&key.namespace, EXIT_TOPIC, "containerd.events.TaskExit", &event);
    }

    /// Publishes that a task is gone.
    pub(crate) fn publish_delete(&self, key: &Key, exit: Exit) {
        let event = TaskDelete {
            container_id: key.id.clone(),
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exit.at.map(time_to_wire),
            ..TaskDelete::default()
        };
        self.publish(&key.namespace, DELETE_TOPIC, "containerd.events.TaskDelete", &event);
    }

    fn publish(&self, namespace: &Namespace, topic: &str, type_url: &str, event: &impl Message) {
        let event = Any { type_url: type_url.to_owned(), value: event.encode_to_vec().into() };
        if let Err(error) = self.settings.events.publish(namespace, topic, event) {
            tracing::error!(topic, error = error.chain(), "cannot publish an event");
        }
    }

    pub(crate) async fn find(&self, namespace: &Namespace, id: &str) -> Result<Arc<Task>> {
        self.registry.find(&Key::new(namespace, id)).await
    }
}
