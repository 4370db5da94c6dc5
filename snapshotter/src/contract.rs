//! The contract: what a snapshotter does, in narrow traits.

use std::time::SystemTime;

use async_trait::async_trait;
use corten_filter::Filters;
use corten_types::{Labels, Mount, Result, UpdateMask};
use futures::future::join_all;

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Read-only, made for looking at a parent.
    View,
    /// Writable, on top of its parent.
    Active,
    /// Immutable: a parent for others.
    Committed,
}

impl Kind {
    /// The word that filters use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }

    /// The kind that a word means.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::View, Self::Active, Self::Committed].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What it is.
    pub kind: Kind,
    /// The key of an active snapshot or view, the name of a committed one.
    pub name: String,
    /// The name of the committed snapshot below it; empty if there is none.
    pub parent: String,
    /// Its labels.
    pub labels: Labels,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
}

/// What a snapshot takes, without its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Disk space: blocks, not lengths.
    pub size_bytes: u64,
    /// Files, folders and links; hard links count once.
    pub inodes: u64,
}

/// Looking at snapshots.
#[async_trait]
pub trait SnapshotReader: Send + Sync {
    /// What is known of `key`, which may also be the name of a committed snapshot. `NotFound` if there is none.
    async fn stat(&self, key: &str) -> Result<SnapshotInfo>;

    /// Up to `limit` snapshots that match, in the order of their names, beginning after `after`.
    async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>>;

    /// What the snapshot takes, without its parents (row S10).
    async fn usage(&self, key: &str) -> Result<Usage>;
}

/// Making snapshots.
#[async_trait]
pub trait SnapshotWriter: Send + Sync {
    /// Makes the active snapshot `key` on top of the committed `parent` (empty: nothing below) and returns its
    /// mounts.
    ///
    /// # Errors
    /// `AlreadyExists`: `key` is taken. `NotFound`: no such parent. `InvalidArgument`: the parent is not committed.
    /// Nothing is left behind.
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>>;

    /// The same, read-only.
    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>>;

    /// Makes the active snapshot `key` the committed `name`. Its files are on stable storage when this returns.
    /// `labels` replace those of the active snapshot. `parent` may be given only where the active one had none
    /// (row S05).
    ///
    /// # Errors
    /// `AlreadyExists`: `name` is taken; `key` stays as it was. `NotFound`: no active `key`. `FailedPrecondition`:
    /// `key` is a view or committed. `InvalidArgument`: a parent that may not be given.
    async fn commit(&self, name: &str, key: &str, labels: Labels, parent: Option<&str>) -> Result<()>;
}

/// Using and changing what exists.
#[async_trait]
pub trait SnapshotKeeper: Send + Sync {
    /// The mounts of an active snapshot or a view, the same each time. `FailedPrecondition` for a committed one.
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// Changes labels: paths `labels` and `labels.<key>`, none of them replaces all (row S08).
    async fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo>;

    /// Removes the snapshot. `FailedPrecondition` while others stand on it.
    async fn remove(&self, key: &str) -> Result<()>;

    /// Removes several; each has its own result. Where one stands on another, the upper one must come first, and a caller that gets
    /// `FailedPrecondition` may have to try again: they may be removed at the same time.
    async fn remove_all(&self, keys: &[String]) -> Vec<Result<()>> {
        join_all(keys.iter().map(|key| self.remove(key))).await
    }

    /// Removes what removed snapshots left on the disk. `Unimplemented` where removal leaves nothing.
    async fn cleanup(&self) -> Result<()>;
}

/// A whole snapshotter.
pub trait Snapshotter: SnapshotReader + SnapshotWriter + SnapshotKeeper {}

impl<T: SnapshotReader + SnapshotWriter + SnapshotKeeper + ?Sized> Snapshotter for T {}
