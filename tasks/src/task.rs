//! One task that can be used: its bundle, its shim, and what was seen of its processes.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use corten_api::containerd::task::v3 as wire;
use corten_types::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    bundle::Bundle, connection::Connection, convert::time_from_wire, locked, model::Exit, registry::Key,
};

/// The answer to `Wait`, for all who wait for the same process.
type Waited = Option<Result<Exit, (ErrorKind, String)>>;

pub(crate) struct Task {
    pub(crate) key: Key,
    pub(crate) bundle: Bundle,
    /// The program of the shim, for `delete` after its death.
    pub(crate) shim: PathBuf,
    pub(crate) connection: Arc<Connection>,
    /// Cancelled when the task leaves the registry.
    pub(crate) gone: CancellationToken,
    pid: AtomicU32,
    exit: Mutex<Option<Exit>>,
    execs: Mutex<BTreeMap<String, u32>>,
    waits: Mutex<HashMap<String, watch::Receiver<Waited>>>,
}

impl Task {
    pub(crate) fn new(
        key: Key,
        bundle: Bundle,
        shim: PathBuf,
        connection: Arc<Connection>,
        pid: u32,
    ) -> Self {
        Self {
            key,
            bundle,
            shim,
            connection,
            gone: CancellationToken::new(),
            pid: AtomicU32::new(pid),
            exit: Mutex::new(None),
            execs: Mutex::new(BTreeMap::new()),
            waits: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Keeps the exit of the first process, for when the shim cannot be asked any more.
    pub(crate) fn note_exit(&self, exit: Exit) {
        locked(&self.exit).get_or_insert(exit);
    }

    pub(crate) fn known_exit(&self) -> Option<Exit> {
        *locked(&self.exit)
    }

    pub(crate) fn note_exec_started(&self, exec_id: &str, pid: u32) {
        locked(&self.execs).insert(exec_id.to_owned(), pid);
    }

    pub(crate) fn note_exec_ended(&self, exec_id: &str) {
        locked(&self.execs).remove(exec_id);
    }

    /// The execs that run as far as is known, with their pids.
    pub(crate) fn running_execs(&self) -> Vec<(String, u32)> {
        locked(&self.execs).iter().map(|(id, pid)| (id.clone(), *pid)).collect()
    }

    /// Waits for the end of a process. However many wait, the shim is asked once (K22).
    pub(crate) async fn wait(self: &Arc<Self>, exec_id: &str) -> Result<Exit> {
        let mut answer = self.waiting(exec_id);
        let answered = answer.wait_for(Option::is_some).await;
        match answered.as_deref() {
            Ok(Some(Ok(exit))) => Ok(*exit),
            Ok(Some(Err((kind, message)))) => Err(Error::new(*kind, message.clone())),
            Ok(None) | Err(_) => Err(Error::unavailable(format!("the shim of task {} is gone", self.key.id))),
        }
    }

    fn waiting(self: &Arc<Self>, exec_id: &str) -> watch::Receiver<Waited> {
        let mut waits = locked(&self.waits);
        if let Some(answer) = waits.get(exec_id) {
            return answer.clone();
        }
        let (sender, receiver) = watch::channel(None);
        waits.insert(exec_id.to_owned(), receiver.clone());
        // It ends with the process, or with the connection: the task itself is only borrowed.
        let (task, connection) = (Arc::downgrade(self), Arc::clone(&self.connection));
        let (key, exec_id) = (self.key.clone(), exec_id.to_owned());
        tokio::spawn(async move {
            let request = wire::WaitRequest { id: key.id, exec_id: exec_id.clone() };
            let answer = connection.call::<_, wire::WaitResponse>(&key.namespace, "Wait", request).await;
            // Whoever asks from now on asks anew: an exec of the same id may be made later.
            if let Some(task) = task.upgrade() {
                locked(&task.waits).remove(&exec_id);
            }
            let exit = answer.map(|answer| Exit {
                pid: 0,
                status: answer.exit_status,
                at: time_from_wire(answer.exited_at),
            });
            sender.send_replace(Some(exit.map_err(|error| (error.kind(), error.chain()))));
        });
        receiver
    }
}
