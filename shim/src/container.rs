//! One container with its processes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use corten_runtime_runc::{CheckpointOptions, Runtime};
use corten_types::{Error, Result};
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    cgroup::Cgroup,
    oom::OomWatch,
    process::{Doing, Phase, Process},
};

/// What a container needs to come back from a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Restore {
    pub(crate) checkpoint: CheckpointOptions,
    pub(crate) no_pivot: bool,
}

/// A container that the runtime knows (or, with a checkpoint, will know).
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) runtime: Runtime,
    /// Where its root filesystem was mounted by the shim, if it was.
    pub(crate) rootfs: Option<PathBuf>,
    pub(crate) io_uid: u32,
    pub(crate) io_gid: u32,
    pub(crate) restore: Option<Restore>,
    pub(crate) init: Arc<Process>,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    /// How many execs were started and have not ended: init's end is told after theirs (row H37).
    running_execs: watch::Sender<usize>,
    init_ended: AtomicBool,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    cgroup: Option<Arc<Cgroup>>,
    oom: Option<OomWatch>,
}

/// A further process of a container.
pub(crate) struct Exec {
    pub(crate) process: Arc<Process>,
    /// The OCI process in JSON.
    pub(crate) specification: Vec<u8>,
}

/// What a container is made of.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) rootfs: Option<PathBuf>,
    pub(crate) io_uid: u32,
    pub(crate) io_gid: u32,
    pub(crate) restore: Option<Restore>,
    pub(crate) init: Arc<Process>,
}

impl Container {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { id, bundle, runtime, rootfs, io_uid, io_gid, restore, init } = parts;
        Self {
            id,
            bundle,
            runtime,
            rootfs,
            io_uid,
            io_gid,
            restore,
            init,
            execs: Mutex::default(),
            running_execs: watch::Sender::default(),
            init_ended: AtomicBool::new(false),
            watched: Mutex::default(),
        }
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        // No code that can panic runs under the lock.
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // No code that can panic runs under the lock.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Init for an empty `exec_id`, or else the exec of that id.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        self.exec(exec_id).map(|exec| exec.process.clone())
    }

    pub(crate) fn exec(&self, exec_id: &str) -> Result<Arc<Exec>> {
        self.execs()
            .get(exec_id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("process does not exist {exec_id}")))
    }

    /// Adds an exec under an id that is free.
    pub(crate) fn add_exec(&self, exec: Exec) -> Result<()> {
        match self.init.phase() {
            Phase::Created | Phase::Starting | Phase::Running => {}
            other => return Err(Doing::Exec.refusal(other)),
        }
        let mut execs = self.execs();
        let id = exec.process.id.clone();
        if execs.contains_key(&id) {
            return Err(Error::already_exists(format!("id {id}")));
        }
        execs.insert(id, Arc::new(exec));
        Ok(())
    }

    pub(crate) fn remove_exec(&self, exec_id: &str) {
        self.execs().remove(exec_id);
    }

    /// The exec that `pid` belongs to.
    pub(crate) fn exec_of(&self, pid: u32) -> Option<String> {
        self.execs().values().find(|exec| exec.process.pid() == pid).map(|exec| exec.process.id.clone())
    }

    /// Counts an exec that is about to start.
    ///
    /// # Errors
    /// `FailedPrecondition`: init has ended.
    pub(crate) fn begin_exec(&self) -> Result<()> {
        if self.init_ended.load(Ordering::Relaxed) {
            return Err(Error::failed_precondition(format!(
                "container {} init process is not running",
                self.id
            )));
        }
        self.running_execs.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Counts an exec whose end was told, or that did not start.
    pub(crate) fn end_exec(&self) {
        self.running_execs.send_modify(|count| *count = count.saturating_sub(1));
    }

    /// No exec can start from now on.
    pub(crate) fn set_init_ended(&self) {
        self.init_ended.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn wait_for_execs(&self) {
        let mut counts = self.running_execs.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _ = counts.wait_for(|count| *count == 0).await;
    }

    pub(crate) fn cgroup(&self) -> Option<Arc<Cgroup>> {
        self.watched().cgroup.clone()
    }

    pub(crate) fn set_cgroup(&self, cgroup: Arc<Cgroup>, oom: Option<OomWatch>) {
        *self.watched() = Watched { cgroup: Some(cgroup), oom };
    }

    pub(crate) fn take_oom_watch(&self) -> Option<OomWatch> {
        self.watched().oom.take()
    }

    /// Whether processes of the container outlive its init: they do unless it has a process namespace of its own (row H37).
    pub(crate) fn processes_outlive_init(&self) -> bool {
        processes_outlive_init(&self.bundle)
    }
}

#[derive(Deserialize)]
struct Specification {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

fn processes_outlive_init(bundle: &Path) -> bool {
    let own_namespace = || -> Option<bool> {
        let file = std::fs::File::open(bundle.join("config.json")).ok()?;
        let specification: Specification = serde_json::from_reader(std::io::BufReader::new(file)).ok()?;
        let namespaces = specification.linux?.namespaces?;
        Some(namespaces.iter().any(|namespace| namespace.kind == "pid" && namespace.path.is_empty()))
    };
    !own_namespace().unwrap_or(false)
}
