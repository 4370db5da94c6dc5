//! Which tasks there are, and what is happening to them: the one place that decides who may clean a task up.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::{Arc, Mutex},
};

use corten_types::{Error, ErrorKind, Namespace, Result};
use tokio::{sync::watch, time::Instant};

use crate::{locked, task::Task};

/// What names a task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Namespace,
    pub(crate) id: String,
}

impl Key {
    pub(crate) fn new(namespace: &Namespace, id: impl Into<String>) -> Self {
        Self { namespace: namespace.clone(), id: id.into() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.id)
    }
}

/// Why a task can be found but not used.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// It is being made; nobody else sees it yet.
    Creating,
    /// The daemon has restarted and its shim has not answered yet. Lookups wait until then.
    Reconnecting(Instant),
    /// Its shim died and it is being cleaned up. Lookups wait, then do not find it.
    Burying,
    /// It was deleted and its shim is about to end. Lookups do not find it, but its name is still taken.
    Leaving,
}

enum Slot {
    Changing(Change, watch::Receiver<()>),
    Live(Arc<Task>),
}

/// All tasks.
#[derive(Default)]
pub(crate) struct Registry {
    slots: Mutex<BTreeMap<Key, Slot>>,
}

/// The right to settle what becomes of one task. Dropping it removes the task.
pub(crate) struct Reservation {
    registry: Arc<Registry>,
    key: Key,
    settled: bool,
    /// Dropped last; those who wait for the task look again then.
    _done: watch::Sender<()>,
}

/// A task as `list` sees it.
pub(crate) enum Listed {
    /// Its shim can be asked.
    Live(Arc<Task>),
    /// Its shim has not answered since the restart.
    Reconnecting(Key),
}

impl Registry {
    /// The task, waiting for it while it is being reconnected.
    ///
    /// # Errors
    /// - `NotFound` (K24).
    /// - `Unavailable`: its shim has not answered within its deadline since the daemon restarted. Never `NotFound` then, which
    ///   clients take for death.
    pub(crate) async fn find(&self, key: &Key) -> Result<Arc<Task>> {
        loop {
            let (change, mut done) = match locked(&self.slots).get(key) {
                Some(Slot::Live(task)) => return Ok(Arc::clone(task)),
                Some(Slot::Changing(change, done)) => (*change, done.clone()),
                None => return Err(not_found(key)),
            };
            match change {
                Change::Creating | Change::Leaving => return Err(not_found(key)),
                Change::Burying => {
                    let _ = done.changed().await;
                }
                Change::Reconnecting(deadline) => {
                    if tokio::time::timeout_at(deadline, done.changed()).await.is_err() {
                        return Err(Error::unavailable(format!(
                            "the shim of task {} has not answered since the daemon started",
                            key.id
                        )));
                    }
                }
            }
        }
    }

    /// Takes the name for a task that is about to be made.
    ///
    /// # Errors
    /// `AlreadyExists`; `Unavailable` as for [`find`](Self::find).
    pub(crate) async fn reserve(self: &Arc<Self>, key: &Key) -> Result<Reservation> {
        loop {
            let (change, mut done) = match locked(&self.slots).entry(key.clone()) {
                Entry::Vacant(vacant) => {
                    let (sender, receiver) = watch::channel(());
                    vacant.insert(Slot::Changing(Change::Creating, receiver));
                    return Ok(self.reservation(key, sender));
                }
                Entry::Occupied(occupied) => match occupied.get() {
                    Slot::Live(_) | Slot::Changing(Change::Creating, _) => {
                        return Err(Error::already_exists(format!("task {}", key.id)));
                    }
                    Slot::Changing(change, done) => (*change, done.clone()),
                },
            };
            match change {
                Change::Reconnecting(_) => match self.find(key).await {
                    Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                    _ => {}
                },
                _ => {
                    let _ = done.changed().await;
                }
            }
        }
    }

    /// Registers a task of an earlier daemon. `None` if there is one of that name already.
    pub(crate) fn reconnect(self: &Arc<Self>, key: &Key, deadline: Instant) -> Option<Reservation> {
        match locked(&self.slots).entry(key.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => {
                let (sender, receiver) = watch::channel(());
                vacant.insert(Slot::Changing(Change::Reconnecting(deadline), receiver));
                Some(self.reservation(key, sender))
            }
        }
    }

    /// The right to remove a task after it was deleted. `None` if somebody else has it.
    pub(crate) fn leave(self: &Arc<Self>, task: &Arc<Task>) -> Option<Reservation> {
        self.take(task, Change::Leaving)
    }

    /// The right to clean up after a task's dead shim. `None` if somebody else has it.
    pub(crate) fn bury(self: &Arc<Self>, task: &Arc<Task>) -> Option<Reservation> {
        self.take(task, Change::Burying)
    }

    fn take(self: &Arc<Self>, task: &Arc<Task>, change: Change) -> Option<Reservation> {
        let mut slots = locked(&self.slots);
        let slot = slots.get_mut(&task.key)?;
        if !matches!(slot, Slot::Live(live) if Arc::ptr_eq(live, task)) {
            return None;
        }
        let (sender, receiver) = watch::channel(());
        *slot = Slot::Changing(change, receiver);
        task.gone.cancel();
        Some(self.reservation(&task.key, sender))
    }

    fn reservation(self: &Arc<Self>, key: &Key, done: watch::Sender<()>) -> Reservation {
        Reservation { registry: Arc::clone(self), key: key.clone(), settled: false, _done: done }
    }

    /// The task if it can be asked right now.
    pub(crate) fn live(&self, key: &Key) -> Option<Arc<Task>> {
        match locked(&self.slots).get(key) {
            Some(Slot::Live(task)) => Some(Arc::clone(task)),
            _ => None,
        }
    }

    /// The tasks of a namespace by id.
    pub(crate) fn list(&self, namespace: &Namespace) -> Vec<Listed> {
        let slots = locked(&self.slots);
        let listed =
            slots.iter().filter(|(key, _)| key.namespace == *namespace).filter_map(
                |(key, slot)| match slot {
                    Slot::Live(task) => Some(Listed::Live(Arc::clone(task))),
                    Slot::Changing(Change::Reconnecting(_), _) => Some(Listed::Reconnecting(key.clone())),
                    Slot::Changing(..) => None,
                },
            );
        listed.collect()
    }

    /// How many live tasks use the shim at `address`.
    pub(crate) fn count_at(&self, address: &str) -> usize {
        let slots = locked(&self.slots);
        slots
            .values()
            .filter(|slot| matches!(slot, Slot::Live(task) if task.connection.address == address))
            .count()
    }

    /// Forgets all tasks, so that their connections can be closed without being taken for dead shims.
    pub(crate) fn clear(&self) {
        let mut slots = locked(&self.slots);
        for slot in slots.values() {
            if let Slot::Live(task) = slot {
                task.gone.cancel();
            }
        }
        slots.retain(|_, slot| matches!(slot, Slot::Changing(..)));
    }
}

impl Reservation {
    /// The task can be used from now on.
    pub(crate) fn settle(mut self, task: Arc<Task>) {
        self.settled = true;
        locked(&self.registry.slots).insert(self.key.clone(), Slot::Live(task));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            locked(&self.registry.slots).remove(&self.key);
        }
    }
}

pub(crate) fn not_found(key: &Key) -> Error {
    Error::not_found(format!("task {} not found", key.id))
}

#[cfg(test)]
mod tests;
