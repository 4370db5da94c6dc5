//! Finding the tasks of an earlier daemon again (rows H74, H75 and H77).

use std::{ffi::OsString, fs, path::Path, sync::Arc};

use corten_api::containerd::{runc::v1::ProcessDetails, task::v3 as wire, v1::types::ProcessInfo};
use corten_types::{Error, ErrorKind, Namespace, Result, validate_identifier};
use prost::Message;
use tokio::time::Instant;

use crate::{
    blocking,
    bootstrap::Bootstrap,
    bundle::{Bundle, io_error, remove_half_deleted},
    burial::Dead,
    connection::{Connection, Shim},
    convert::{time_from_wire, type_name},
    inner::Inner,
    log::LogDrain,
    model::{Exit, Recovery, Status},
    registry::{Key, Reservation},
    task::Task,
};

/// A bundle of an earlier daemon, with the right to decide about it.
struct Found {
    key: Key,
    bundle: Bundle,
    reservation: Reservation,
}

impl Inner {
    /// Registers every bundle at once, then reconnects them in the background.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<Recovery> {
        let inner = Arc::clone(self);
        let (found, removed) = blocking(move || inner.scan()).await?;
        let recovery = Recovery { reconnecting: found.len(), removed };
        self.recovering.send_modify(|count| *count += found.len());
        // All at once: one that does not answer must not hold up another. What they cost is a socket each.
        for found in found {
            self.tracker.spawn(Arc::clone(self).reconnect(found));
        }
        let inner = Arc::clone(self);
        self.tracker.spawn(async move {
            inner.recovered().await;
            let finished = Arc::clone(&inner);
            if let Err(error) = blocking(move || finished.remove_stale_work()).await {
                tracing::error!(error = error.chain(), "cannot remove stale work folders");
            }
        });
        Ok(recovery)
    }

    /// Waits until every shim has answered, was found dead, or has had its time.
    pub(crate) async fn recovered(&self) {
        let mut count = self.recovering.subscribe();
        tokio::select! {
            // An error says that the sender is gone; it is ours.
            _ = count.wait_for(|count| *count == 0) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    fn scan(self: &Arc<Self>) -> Result<(Vec<Found>, usize)> {
        let (mut found, mut removed) = (Vec::new(), 0);
        let deadline = Instant::now() + self.settings.timeouts.load;
        for name in folders(self.layout.state())? {
            let Some(namespace) = name.to_str().and_then(|name| name.parse::<Namespace>().ok()) else {
                tracing::warn!(?name, "not a namespace; left alone");
                continue;
            };
            let folder = self.layout.state().join(&name);
            let names = folders(&folder).unwrap_or_else(|error| {
                tracing::error!(error = error.chain(), "the tasks of a namespace are not recovered");
                Vec::new()
            });
            for name in names {
                let path = folder.join(&name);
                let Some(id) = name.to_str().filter(|id| validate_identifier("task id", id).is_ok()) else {
                    removed += usize::from(remove_if_hidden(&name, &path));
                    continue;
                };
                let key = Key::new(&namespace, id);
                // Not if it is being made by now: the daemon may serve already.
                let Some(reservation) = self.registry.reconnect(&key, deadline) else { continue };
                let bundle = self.layout.bundle(&namespace, id);
                if bundle.is_empty() {
                    removed += usize::from(report(&key, bundle.delete()));
                } else {
                    found.push(Found { key, bundle, reservation });
                }
            }
        }
        Ok((found, removed))
    }

    async fn reconnect(self: Arc<Self>, found: Found) {
        let key = found.key.clone();
        let work = self.reconnect_patiently(found);
        tokio::pin!(work);
        let in_time = tokio::select! {
            () = &mut work => true,
            () = self.stopping.cancelled() => return,
            () = tokio::time::sleep(self.settings.timeouts.load) => false,
        };
        self.recovering.send_modify(|count| *count = count.saturating_sub(1));
        if !in_time {
            tracing::warn!(?key, "the shim does not answer; its task is unavailable until it does");
            tokio::select! {
                () = &mut work => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// Waits for the shim as long as it lives: one that is only slow must not lose its container.
    async fn reconnect_patiently(self: &Arc<Self>, found: Found) {
        let bootstrap = match Bootstrap::load(&found.bundle) {
            Ok(Some(bootstrap)) => bootstrap,
            Ok(None) => return self.discard_unborn(found).await,
            Err(error) => {
                tracing::error!(key = ?found.key, error = error.chain(), "the bundle does not say where its shim is");
                return self.bury_found(found).await;
            }
        };
        let connection = loop {
            match self.connections.open(&bootstrap, Shim::Running, self.settings.timeouts.load).await {
                Ok(connection) => break connection,
                Err(error) if error.kind() == ErrorKind::DeadlineExceeded => {}
                Err(error) => {
                    tracing::warn!(key = ?found.key, error = error.chain(), "the shim died while no daemon ran");
                    return self.bury_found(found).await;
                }
            }
        };
        match LogDrain::open(&found.bundle, &found.key) {
            Ok(log) => connection.keep_log(log),
            Err(error) => {
                tracing::warn!(key = ?found.key, error = error.chain(), "the shim's log is not read")
            }
        }
        match connection.connect(&found.key).await {
            Ok(answer) => self.adopt(found, connection, answer.task_pid).await,
            Err(error) => {
                tracing::warn!(key = ?found.key, error = error.chain(), "the shim does not work");
                self.bury_found(found).await;
            }
        }
    }

    /// Takes over a task whose shim answered, or ends a shim that has no task.
    async fn adopt(self: &Arc<Self>, found: Found, connection: Arc<Connection>, connected_pid: u32) {
        let Found { key, bundle, reservation } = found;
        let request = wire::StateRequest { id: key.id.clone(), exec_id: String::new() };
        let state: Result<wire::StateResponse> = connection.call(&key.namespace, "State", request).await;
        let state = match state {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.end_leaked(key, bundle, connection, reservation).await;
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                return self.bury_found(Found { key, bundle, reservation }).await;
            }
            other => other.ok(),
        };
        let shim = self.recorded_shim(&bundle).unwrap_or_default();
        let pid = state.as_ref().map_or(connected_pid, |state| state.pid);
        let task = Arc::new(Task::new(key, bundle, shim, connection, pid));
        if let Some(state) = state.filter(|state| Status::from_wire(state.status) == Status::Stopped) {
            self.make_up_exit(&task, &state);
        } else if let Ok(answer) = task.connection.pids(&task.key).await {
            for (exec_id, pid) in answer.processes.into_iter().filter_map(exec_of) {
                task.note_exec_started(&exec_id, pid);
            }
        }
        reservation.settle(Arc::clone(&task));
        self.supervise(&task);
    }

    /// The container exited while no daemon ran, or shortly before: whoever missed it hears of it now. When the shim repeats
    /// the event, that is dropped (`consistency.md` §6).
    fn make_up_exit(&self, task: &Arc<Task>, state: &wire::StateResponse) {
        let exit = Exit { pid: state.pid, status: state.exit_status, at: time_from_wire(state.exited_at) };
        task.note_exit(exit);
        self.publish_exit(&task.key, &task.key.id, exit);
    }

    /// A shim without a container: the daemon died while it made the task.
    async fn end_leaked(
        &self,
        key: Key,
        bundle: Bundle,
        connection: Arc<Connection>,
        reservation: Reservation,
    ) {
        tracing::warn!(?key, "ending a shim that has no task");
        let shim = self.recorded_shim(&bundle).unwrap_or_default();
        self.undo(&key, &bundle, &shim, Some(connection)).await;
        drop(reservation);
    }

    /// A bundle without a shim: nothing ran, nobody was told of it.
    async fn discard_unborn(&self, found: Found) {
        tracing::warn!(key = ?found.key, "removing a task that was never made");
        let shim = self.recorded_shim(&found.bundle).unwrap_or_default();
        self.undo(&found.key, &found.bundle, &shim, None).await;
        drop(found.reservation);
    }

    async fn bury_found(&self, found: Found) {
        let shim =
            self.recorded_shim(&found.bundle).or_else(|| self.lookup.find("io.containerd.runc.v2").ok());
        self.bury(Dead::from_bundle(&found.key, &found.bundle, shim), found.reservation).await;
    }

    /// Work folders outlive a reboot, bundles do not (H77). What counts is the bundle on disk, which is made first.
    fn remove_stale_work(&self) -> Result<()> {
        for namespace in folders(self.layout.root())? {
            let folder = self.layout.root().join(&namespace);
            let parsed = namespace.to_str().and_then(|name| name.parse::<Namespace>().ok());
            for name in folders(&folder)? {
                let used = name.to_str().is_some_and(|id| {
                    let namespace = parsed.as_ref();
                    namespace.is_some_and(|namespace| self.layout.bundle(namespace, id).path().exists())
                });
                if !used && let Err(source) = fs::remove_dir_all(folder.join(&name)) {
                    tracing::warn!(folder = %folder.display(), ?name, %source, "cannot remove a stale work folder");
                }
            }
        }
        Ok(())
    }
}

/// The names of the folders in `path`; none if it does not exist.
fn folders(path: &Path) -> Result<Vec<OsString>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error("read", path, source)),
    };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.file_name()).collect())
}

/// Hidden folders are half deleted bundles (H72). Anything else that is not a task is left alone.
fn remove_if_hidden(name: &OsString, path: &Path) -> bool {
    if !name.as_encoded_bytes().starts_with(b".") {
        tracing::warn!(path = %path.display(), "not a task; left alone");
        return false;
    }
    match remove_half_deleted(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(error = error.chain(), "cannot remove a half deleted bundle");
            false
        }
    }
}

fn report(key: &Key, outcome: Result<()>) -> bool {
    outcome
        .inspect_err(|error: &Error| tracing::error!(?key, error = error.chain(), "cannot remove a bundle"))
        .is_ok()
}

/// The exec that a process is, if it is one (K18).
fn exec_of(process: ProcessInfo) -> Option<(String, u32)> {
    let info =
        process.info.filter(|info| type_name(&info.type_url) == "containerd.runc.v1.ProcessDetails")?;
    let details = ProcessDetails::decode(info.value.as_slice()).ok()?;
    Some((details.exec_id, process.pid)).filter(|(id, _)| !id.is_empty())
}
