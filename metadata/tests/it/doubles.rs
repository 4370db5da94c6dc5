//! A snapshotter in memory that follows the contract, for tests that look at rows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use async_trait::async_trait;
use corten_filter::Filters;
use corten_snapshotter::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Usage};
use corten_types::{Error, Labels, Mount, Result, UpdateMask};

/// When remote snapshots were made.
pub(crate) const REMOTE_TIME: SystemTime = SystemTime::UNIX_EPOCH;

/// Snapshots that are only their rows.
#[derive(Debug, Default)]
pub(crate) struct MemorySnapshotter {
    snapshots: Mutex<BTreeMap<String, SnapshotInfo>>,
    /// Names that a remote store has, and the name of what they stand on, if it is not what they are asked for on: preparing
    /// with such a label finds them (S12).
    remote: Mutex<BTreeMap<String, Option<String>>>,
    /// Counts operations that change something, and lets none happen from one of them on.
    steps: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    done: usize,
    crash_at: Option<usize>,
    answer_is_lost: bool,
}

impl MemorySnapshotter {
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The names without namespace and number.
    pub(crate) fn short_names(&self) -> Vec<String> {
        let short = |name: &String| name.splitn(3, '/').last().unwrap_or_default().to_owned();
        let mut names: Vec<String> = self.names().iter().map(short).collect();
        names.sort();
        names
    }

    pub(crate) fn info(&self, name: &str) -> Option<SnapshotInfo> {
        self.lock().get(name).cloned()
    }

    pub(crate) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(crate) fn add_remote(&self, target: &str) {
        self.remote.lock().unwrap().insert(target.to_owned(), None);
    }

    pub(crate) fn add_remote_on(&self, target: &str, parent: &str) {
        self.remote.lock().unwrap().insert(target.to_owned(), Some(parent.to_owned()));
    }

    /// Gives a snapshot a label of the snapshotter's own.
    pub(crate) fn label(&self, name: &str, key: &str, value: &str) {
        let mut snapshots = self.lock();
        snapshots.get_mut(name).unwrap().labels.insert(key.to_owned(), value.to_owned());
    }

    /// From the change with this number on (from 0, counted from now), nothing happens any more and every call fails;
    /// `None` for never. With `answer_is_lost` that change still happens.
    pub(crate) fn crash_at(&self, number: Option<usize>, answer_is_lost: bool) {
        *self.steps.lock().unwrap() = Steps { done: 0, crash_at: number, answer_is_lost };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SnapshotInfo>> {
        self.snapshots.lock().unwrap()
    }

    fn alive(&self) -> Result<()> {
        let steps = self.steps.lock().unwrap();
        match steps.crash_at {
            Some(at) if steps.done > at => Err(dead()),
            _ => Ok(()),
        }
    }

    /// Does a change, unless it is one too many.
    fn step<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        self.alive()?;
        let (crashes, answer_is_lost) = {
            let mut steps = self.steps.lock().unwrap();
            steps.done += 1;
            (steps.crash_at.is_some_and(|at| steps.done > at), steps.answer_is_lost)
        };
        if crashes && !answer_is_lost {
            return Err(dead());
        }
        let result = change();
        if crashes { Err(dead()) } else { result }
    }

    fn make(&self, key: &str, parent: &str, labels: Labels, kind: Kind) -> Result<Vec<Mount>> {
        let mut snapshots = self.lock();
        if let Some(target) = labels.get("containerd.io/snapshot.ref")
            && let Some(other) = self.remote.lock().unwrap().get(target)
        {
            let name = format!("remote/{target}");
            let parent = other.as_deref().unwrap_or(parent);
            let mut found = info(Kind::Committed, &name, parent, labels.clone());
            found.created_at = REMOTE_TIME;
            found.updated_at = REMOTE_TIME;
            snapshots.insert(name.clone(), found);
            return Err(Error::already_exists(format!("remote snapshot {target}")));
        }
        if snapshots.contains_key(key) {
            return Err(Error::already_exists(format!("backend snapshot {key}")));
        }
        if !parent.is_empty() {
            let below =
                snapshots.get(parent).ok_or_else(|| Error::not_found(format!("backend parent {parent}")))?;
            if below.kind != Kind::Committed {
                return Err(Error::invalid_argument("the parent is not committed"));
            }
        }
        snapshots.insert(key.to_owned(), info(kind, key, parent, labels));
        Ok(mounts(key, kind))
    }
}

fn info(kind: Kind, name: &str, parent: &str, labels: Labels) -> SnapshotInfo {
    let now = SystemTime::now();
    SnapshotInfo {
        kind,
        name: name.to_owned(),
        parent: parent.to_owned(),
        labels,
        created_at: now,
        updated_at: now,
    }
}

fn mounts(key: &str, kind: Kind) -> Vec<Mount> {
    let mode = if kind == Kind::View { "ro" } else { "rw" };
    vec![Mount {
        kind: "bind".to_owned(),
        source: key.to_owned(),
        target: String::new(),
        options: vec![mode.to_owned()],
    }]
}

fn dead() -> Error {
    Error::internal("the snapshotter is no more")
}

fn missing(key: &str) -> Error {
    Error::not_found(format!("backend snapshot {key}"))
}

#[async_trait]
impl SnapshotReader for MemorySnapshotter {
    async fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        self.alive()?;
        self.info(key).ok_or_else(|| missing(key))
    }

    async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>> {
        self.alive()?;
        let snapshots = self.lock();
        let later = snapshots.values().filter(|info| after.is_none_or(|after| info.name.as_str() > after));
        Ok(later.filter(|info| filters.matches(*info)).take(limit).cloned().collect())
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        self.stat(key).await.map(|_| Usage { size_bytes: 4096, inodes: 1 })
    }
}

#[async_trait]
impl SnapshotWriter for MemorySnapshotter {
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.step(|| self.make(key, parent, labels, Kind::Active))
    }

    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.step(|| self.make(key, parent, labels, Kind::View))
    }

    async fn commit(&self, name: &str, key: &str, labels: Labels, parent: Option<&str>) -> Result<()> {
        self.step(|| {
            let mut snapshots = self.lock();
            if snapshots.contains_key(name) {
                return Err(Error::already_exists(format!("backend snapshot {name}")));
            }
            let active = snapshots.get(key).cloned().ok_or_else(|| missing(key))?;
            if active.kind != Kind::Active {
                return Err(Error::failed_precondition("only an active snapshot can be committed"));
            }
            snapshots.remove(key);
            let parent = parent.unwrap_or(&active.parent);
            snapshots.insert(name.to_owned(), info(Kind::Committed, name, parent, labels));
            Ok(())
        })
    }
}

#[async_trait]
impl SnapshotKeeper for MemorySnapshotter {
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let info = self.stat(key).await?;
        if info.kind == Kind::Committed {
            return Err(Error::failed_precondition("a committed snapshot has no mounts"));
        }
        Ok(mounts(key, info.kind))
    }

    async fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        self.step(|| {
            let mut snapshots = self.lock();
            let info = snapshots.get_mut(key).ok_or_else(|| missing(key))?;
            for path in mask.paths() {
                match path.key {
                    None => info.labels = labels.clone(),
                    Some(key) => match labels.get(key) {
                        Some(value) => drop(info.labels.insert(key.to_owned(), value.clone())),
                        None => drop(info.labels.remove(key)),
                    },
                }
            }
            Ok(info.clone())
        })
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.step(|| {
            let mut snapshots = self.lock();
            if snapshots.values().any(|info| info.parent == key) {
                return Err(Error::failed_precondition("others stand on it"));
            }
            snapshots.remove(key).map(drop).ok_or_else(|| missing(key))
        })
    }

    async fn cleanup(&self) -> Result<()> {
        Err(Error::unimplemented("nothing to clean up"))
    }
}
