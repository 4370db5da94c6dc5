//! A snapshotter whose files and rows are on this machine: everything but the filesystem's own part.

mod blocking;
mod driver;
mod meter;
mod open;
mod recording;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use corten_disk::Disk;
use corten_filter::Filters;
use corten_types::{Error, Labels, Mount, Result, UpdateMask};

use crate::{Inspector, Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Usage};
use blocking::Blocking;
pub use driver::{Driver, Placement, Removal};
pub use meter::MeasuredUsage;
pub use open::OpenReport;
pub(crate) use open::doubts;
pub use recording::{RecordTrees, Recorder};

/// A snapshotter with its rows in a [`Metastore`](crate::Metastore) and its folders in [`Trees`](crate::Trees); `D` says what is in the folders and how
/// they are mounted. Cheap to clone; clones are the same snapshotter.
///
/// Calls run in tokio's blocking pool, or at once on a thread that [may wait](corten_disk::may_wait). One that was begun is finished, also if nobody waits for it any more.
#[derive(Debug)]
pub struct LocalSnapshotter<D>(Arc<Blocking<D>>);

/// The files of one snapshot, without its parents'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The number of the snapshot.
    pub id: u64,
    /// Where its files are, absolute. A view may have none of its own: then this is not there.
    pub path: PathBuf,
    /// The manifest of the files. Without one nobody can say whether they changed: something else than a layer put
    /// them there, or it was committed by a version that kept none.
    pub manifest: Option<TreeManifest>,
}

/// A manifest that a committed snapshot must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeManifest {
    /// Where it is, absolute. If it is not there, or damaged, it is lost.
    pub path: PathBuf,
    /// The checksum that its [`Seal`](crate::manifest::Seal) must have.
    pub checksum: u32,
}

impl<D> Clone for LocalSnapshotter<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Driver> LocalSnapshotter<D> {
    /// Opens the snapshotter with its state under `root` (absolute), which is made if it is not there. It blocks.
    ///
    /// What a crash left is set right before this returns: folders without a row go, unless the database is in
    /// quarantine or belongs to other folders; see [`LocalSnapshotter::report`].
    ///
    /// # Errors
    /// `Unavailable`: another process has it open. `FailedPrecondition`: the filesystem cannot be used. Others: the
    /// disk.
    pub fn open(root: &Path, options: D::Options) -> Result<Self> {
        Self::open_on(root, options, Disk::new())
    }

    /// The same on a given disk; tests script it.
    ///
    /// # Errors
    /// As [`LocalSnapshotter::open`].
    pub fn open_on(root: &Path, options: D::Options, disk: Disk) -> Result<Self> {
        Ok(Self(Arc::new(Blocking::open(root, options, disk)?)))
    }

    /// What was found at open.
    #[must_use]
    pub fn report(&self) -> &OpenReport {
        &self.0.report
    }

    /// The capabilities that clients see.
    #[must_use]
    pub fn capabilities(&self) -> Vec<String> {
        self.0.driver.capabilities()
    }

    /// The folder that everything is under.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.trees.root()
    }

    /// A look from below, for programs that check and repair.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector::new(Arc::clone(&self.0) as _)
    }

    /// The committed snapshot that was made under `key`, if there is one: whether a commit whose answer was lost came
    /// through.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn committed_from(&self, key: &str) -> Result<Option<SnapshotInfo>> {
        let key = key.to_owned();
        self.run(move |inner| Ok(inner.metastore.committed_from(&key)?.map(|row| row.info))).await
    }

    /// What the snapshot takes without its parents, and since when that is known. For a committed one that is known for
    /// good (age zero); an active one is measured in the background: small trees anew for each call, large ones at most
    /// a tenth of the time. The first answer for a tree that takes more than two seconds counts what was seen until
    /// then.
    ///
    /// # Errors
    /// `NotFound`: there is no such snapshot. `ResourceExhausted`: too many are measured for the first time at once.
    pub async fn measured_usage(&self, key: &str) -> Result<MeasuredUsage> {
        let key = key.to_owned();
        self.run(move |inner| inner.usage(&key)).await
    }

    /// Where the files of `key` are, and what proves that they are still what a layer put there.
    ///
    /// # Errors
    /// `NotFound`: there is no such snapshot. Others: those of the database.
    pub async fn tree(&self, key: &str) -> Result<Tree> {
        let key = key.to_owned();
        self.run(move |inner| inner.tree(&key)).await
    }

    /// Ends the quarantine that [`LocalSnapshotter::report`] told of: what has no row is removed at the next open.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub async fn release_quarantine(&self) -> Result<()> {
        self.run(Blocking::release_quarantine).await
    }

    /// Closes the database. Later calls fail with `Unavailable`; a second close does nothing. Dropping the last clone
    /// closes it, too.
    ///
    /// # Errors
    /// Those of the disk. Everything acknowledged is durable all the same.
    pub async fn close(&self) -> Result<()> {
        self.run(|inner| inner.metastore.close()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Blocking<D>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if corten_disk::may_wait() {
            return work(&self.0);
        }
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or_else(|error| {
            Err(Error::internal("an operation on snapshots did not finish").with_source(error))
        })
    }
}

impl<D: Driver> RecordTrees for LocalSnapshotter<D> {
    fn record(&self, tree: &Path) -> Result<Option<Recorder>> {
        self.0.record(tree)
    }
}

#[async_trait]
impl<D: Driver> SnapshotReader for LocalSnapshotter<D> {
    async fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        let key = key.to_owned();
        self.run(move |inner| inner.stat(&key)).await
    }

    async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>> {
        let (filters, after) = (filters.clone(), after.map(str::to_owned));
        self.run(move |inner| inner.list(&filters, after.as_deref(), limit)).await
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        self.measured_usage(key).await.map(|measured| measured.usage)
    }
}

#[async_trait]
impl<D: Driver> SnapshotWriter for LocalSnapshotter<D> {
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let (key, parent) = (key.to_owned(), parent.to_owned());
        self.run(move |inner| inner.create(Kind::Active, &key, &parent, labels)).await
    }

    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let (key, parent) = (key.to_owned(), parent.to_owned());
        self.run(move |inner| inner.create(Kind::View, &key, &parent, labels)).await
    }

    async fn commit(&self, name: &str, key: &str, labels: Labels, parent: Option<&str>) -> Result<()> {
        let (name, key, parent) = (name.to_owned(), key.to_owned(), parent.unwrap_or_default().to_owned());
        self.run(move |inner| inner.commit(&name, &key, labels, &parent)).await
    }
}

#[async_trait]
impl<D: Driver> SnapshotKeeper for LocalSnapshotter<D> {
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let key = key.to_owned();
        self.run(move |inner| inner.mounts(&key)).await
    }

    async fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        let (key, labels, mask) = (key.to_owned(), labels.clone(), mask.clone());
        self.run(move |inner| inner.update(&key, &labels, &mask)).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.run(move |inner| inner.remove(&key)).await
    }

    /// All of them in two transactions.
    async fn remove_all(&self, keys: &[String]) -> Vec<Result<()>> {
        let wanted = keys.to_vec();
        let removed = self.run(move |inner| Ok(inner.remove_all(&wanted))).await;
        removed.unwrap_or_else(|error| {
            keys.iter().map(|_| Err(Error::new(error.kind(), error.chain()))).collect()
        })
    }

    async fn cleanup(&self) -> Result<()> {
        self.run(Blocking::cleanup).await
    }
}
