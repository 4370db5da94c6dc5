//! The task service, versions 2 and 3 on the same handlers (row H30).

mod create;
mod execute;
mod inspect;
mod lifecycle;
mod register;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use corten_types::{Error, Result};
use tokio::sync::watch;

use crate::{container::Container, publisher::Publisher, reaper::Reaper};

pub(crate) use register::register;

/// Where the runtime keeps its state unless the options say otherwise. Tools read it there (row H44).
const DEFAULT_RUNTIME_ROOT: &str = "/run/containerd/runc";

/// The folder of the runtime's state for `namespace`, below `root` if that is given.
pub(crate) fn runtime_root(root: &str, namespace: &str) -> PathBuf {
    let root = if root.is_empty() { DEFAULT_RUNTIME_ROOT } else { root };
    Path::new(root).join(namespace)
}

/// What the handlers share.
pub(crate) struct Shim {
    namespace: String,
    reaper: Arc<Reaper>,
    publisher: Arc<Publisher>,
    containers: Mutex<HashMap<String, Slot>>,
    /// How many containers there are, those that are being created included.
    count: watch::Sender<usize>,
    ended: watch::Sender<bool>,
}

/// A place for a container.
enum Slot {
    /// It is being created.
    Reserved,
    Filled(Arc<Container>),
}

impl Shim {
    pub(crate) fn new(namespace: &str, reaper: Arc<Reaper>, publisher: Arc<Publisher>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            reaper,
            publisher,
            containers: Mutex::default(),
            count: watch::Sender::default(),
            ended: watch::Sender::default(),
        }
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        // No code that can panic runs under the lock.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container, once it is created.
    fn container(&self, id: &str) -> Result<Arc<Container>> {
        match self.containers().get(id) {
            Some(Slot::Filled(container)) => Ok(container.clone()),
            _ => Err(Error::not_found("container not created")),
        }
    }

    /// Keeps `id` for a container that is being created.
    ///
    /// # Errors
    /// `AlreadyExists`; `Unavailable` if the shim is about to end.
    fn reserve(&self, id: &str) -> Result<()> {
        let mut containers = self.containers();
        // Under the lock, so that a shutdown that saw no container cannot overtake a creation.
        if *self.ended.borrow() {
            return Err(Error::unavailable("the shim is shutting down"));
        }
        match containers.entry(id.to_owned()) {
            Entry::Occupied(_) => Err(Error::already_exists(format!("container {id}"))),
            Entry::Vacant(place) => {
                place.insert(Slot::Reserved);
                self.count.send_replace(containers.len());
                Ok(())
            }
        }
    }

    fn fill(&self, container: Arc<Container>) {
        self.containers().insert(container.id.clone(), Slot::Filled(container));
    }

    fn remove(&self, id: &str) {
        let mut containers = self.containers();
        containers.remove(id);
        self.count.send_replace(containers.len());
        if containers.is_empty() {
            containers.shrink_to_fit();
        }
    }

    /// Ends the shim if it looks after nothing (row H34). True if it does not.
    fn end_if_empty(&self) -> bool {
        let containers = self.containers();
        if containers.is_empty() {
            self.ended.send_replace(true);
        }
        containers.is_empty()
    }

    /// Waits until there was no container for as long as `limit`: the daemon that started this shim has forgotten it.
    pub(crate) async fn abandoned(&self, limit: Duration) {
        let mut counts = self.count.subscribe();
        loop {
            let empty = *counts.borrow_and_update() == 0;
            // The sender lives in `self`, so the channel cannot close.
            if !empty {
                let _ = counts.changed().await;
            } else if tokio::time::timeout(limit, counts.changed()).await.is_err() && self.end_if_empty() {
                return;
            }
        }
    }

    /// Waits until the shim is to end.
    pub(crate) async fn shut_down(&self) {
        let mut ends = self.ended.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _ = ends.wait_for(|ended| *ended).await;
    }
}

#[cfg(test)]
#[path = "service/tests.rs"]
mod tests;
