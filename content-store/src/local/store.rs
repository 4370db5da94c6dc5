//! The store: looking at blobs and ingests, deleting, giving up.

use std::{fmt, fs, io, path::Path, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use corten_disk::Disk;
use corten_filter::Filters;
use corten_types::{Algorithm, Digest, Error, Labels, Result, UpdateMask};

use super::{
    blob::{self, LocalBlob},
    following::{Follower, Tellers},
    ingest::LocalIngest,
    labels,
    layout::Layout,
    locks::{DigestLocks, KeyLocks},
    names::Names,
    record,
};
use crate::{
    Blob, BlobInfo, BlobReader, BlobWriter, FollowedIngest, Ingest, IngestCatalog, IngestFollower,
    IngestOptions, IngestStatus, Ingester,
};

/// The mode of folders.
pub(crate) const FOLDER_MODE: u32 = 0o755;

/// A content store on a local filesystem, in containerd's layout. Clones are the same store.
///
/// Unless it was opened with [`LocalStore::open_labelled`] it keeps no labels: `update` answers `Unimplemented`, and labels
/// given to a commit are ignored. It needs a tokio runtime, on whose blocking threads it works.
#[derive(Clone)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) disk: Disk,
    pub(crate) layout: Layout,
    pub(crate) keys: Arc<KeyLocks>,
    pub(crate) tellers: Arc<Tellers>,
    pub(crate) digests: DigestLocks,
    pub(crate) names: Names,
    keeps_labels: bool,
}

/// The fewest names that a listing looks at in one go.
const MIN_NAMES_AT_ONCE: usize = 128;

/// What fails when a blob is gone and its labels are not.
const DELETE_LABELS: &str = "delete the labels of";

impl LocalStore {
    /// Opens the store below the folder `root` (absolute), which is made if it is not there. It blocks.
    ///
    /// A root has one store in one process at a time; the caller sees to that ([`corten_disk::RootLock`]).
    ///
    /// # Errors
    /// That a folder cannot be made, read or synced, with the class of the system's error. Some folders may have been made.
    pub fn open(root: &Path, disk: Disk) -> Result<Self> {
        Self::open_with(root, disk, false)
    }

    /// The same for a store that keeps labels, in files of its own beside the blobs. A layer above that keeps them with its
    /// names, as Corten's metadata does, does not need it.
    ///
    /// # Errors
    /// As for [`LocalStore::open`].
    pub fn open_labelled(root: &Path, disk: Disk) -> Result<Self> {
        Self::open_with(root, disk, true)
    }

    fn open_with(root: &Path, disk: Disk, keeps_labels: bool) -> Result<Self> {
        let layout = Layout::new(root);
        let prepare = |folder: &Path| {
            disk.create_dir_all(folder, FOLDER_MODE).and_then(|()| disk.sync_folder(folder)).map_err(
                |error| Error::io(format!("cannot prepare {} of a content store", folder.display()), error),
            )
        };
        // The process before may have died between a rename and the sync of the folder. From here on such a blob counts as
        // committed, so its name must be on stable storage.
        for algorithm in Algorithm::ALL {
            prepare(&layout.blobs_of(algorithm))?;
            if keeps_labels {
                prepare(&layout.labels_of(algorithm))?;
            }
        }
        prepare(&layout.blobs())?;
        prepare(&layout.ingests())?;
        let inner = Inner {
            disk,
            layout,
            keys: Arc::default(),
            tellers: Arc::default(),
            digests: DigestLocks::default(),
            names: Names::default(),
            keeps_labels,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The folder that it was opened with.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// Removes what a crash left of ingests whose key cannot be read any more, and says how many there were. It blocks.
    ///
    /// Such an ingest is in no listing and would take room for ever. Call it only while nobody has an ingest open; aborts
    /// may go on.
    ///
    /// # Errors
    /// That the folder of ingests cannot be read, or one of them not be removed; others may have been removed.
    pub fn remove_unreadable_ingests(&self) -> Result<usize> {
        let inner = &self.inner;
        let failed = |error| Error::io("cannot remove unreadable ingests", error);
        let mut removed = 0;
        for entry in fs::read_dir(inner.layout.ingests()).map_err(failed)? {
            let folder = entry.map_err(failed)?.path();
            let is_known = record::read(&folder)
                .map_err(failed)?
                .is_some_and(|status| inner.layout.ingest(&status.key) == folder);
            if is_known {
                continue;
            }
            match inner.remove_ingest(&folder) {
                Ok(()) => removed += 1,
                // Somebody aborted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(removed)
    }

    async fn run<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Arc<Inner>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(move || action(&inner)).await
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalStore").field("root", &self.root()).finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobReader for LocalStore {
    async fn info(&self, digest: &Digest) -> Result<BlobInfo> {
        let digest = digest.clone();
        self.run(move |inner| inner.info(&digest)).await
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn Blob>> {
        let digest = digest.clone();
        self.run(move |inner| {
            let blob = LocalBlob::open(&inner.layout.blob(&digest), &digest)?;
            Ok(Arc::new(blob) as Arc<dyn Blob>)
        })
        .await
    }

    /// A listing of many pages reads the names of all blobs once, at its first page.
    async fn list(&self, filters: &Filters, after: Option<&Digest>, limit: usize) -> Result<Vec<BlobInfo>> {
        let (filters, mut after) = (filters.clone(), after.cloned());
        self.run(move |inner| {
            let mut found = Vec::new();
            while found.len() < limit {
                let wanted = (limit - found.len()).max(MIN_NAMES_AT_ONCE);
                let names = inner.names.page(after.as_ref(), wanted, || inner.read_names())?;
                let is_last = names.len() < wanted;
                for digest in &names {
                    match inner.info(digest) {
                        Ok(info) if filters.matches(&info) => found.push(info),
                        // Filtered out, deleted meanwhile, or no file.
                        Ok(_) => {}
                        Err(error) if is_absent_or_damaged(&error) => {}
                        Err(error) => return Err(error),
                    }
                    if found.len() == limit {
                        break;
                    }
                }
                if is_last {
                    break;
                }
                after = names.into_iter().next_back();
            }
            Ok(found)
        })
        .await
    }
}

#[async_trait]
impl BlobWriter for LocalStore {
    async fn update(&self, digest: &Digest, labels: &Labels, mask: &UpdateMask) -> Result<BlobInfo> {
        if !self.inner.keeps_labels {
            return Err(Error::unimplemented(format!(
                "blob {digest} has no labels to update: this store keeps none"
            )));
        }
        let (digest, wanted, mask) = (digest.clone(), labels.clone(), mask.clone());
        self.run(move |inner| {
            inner.digests.hold(&digest, || {
                let mut labels = inner.info(&digest)?.labels;
                labels::apply(&mut labels, &wanted, &mask, &digest)?;
                labels::write(&inner.disk, &inner.layout.labels(&digest), &digest, &labels)?;
                inner.info(&digest)
            })
        })
        .await
    }

    /// On return the name is gone from stable storage. If only that failed the blob is gone nevertheless, but may come back
    /// with a power cut.
    async fn delete(&self, digest: &Digest) -> Result<()> {
        let digest = digest.clone();
        self.run(move |inner| {
            inner.digests.hold(&digest, || {
                inner
                    .disk
                    .remove_file(&inner.layout.blob(&digest))
                    .and_then(|()| inner.disk.sync_folder(&inner.layout.blobs_of(digest.algorithm())))
                    .map_err(|error| blob::failure("delete", &digest, error))?;
                inner.names.changed(&digest, false);
                inner.forget_labels(&digest).map_err(|error| blob::failure(DELETE_LABELS, &digest, error))
            })
        })
        .await
    }

    /// One sync of the folder for all of them, and one of that of their labels. If the first fails, those that are gone may
    /// come back with a power cut.
    async fn delete_all(&self, digests: &[Digest]) -> Vec<Result<()>> {
        let wanted = digests.to_vec();
        let removed = self.run(move |inner| Ok(remove_all(inner, &wanted))).await;
        removed.unwrap_or_else(|error| {
            digests.iter().map(|_| Err(Error::new(error.kind(), error.chain()))).collect()
        })
    }
}

fn remove_all(inner: &Inner, digests: &[Digest]) -> Vec<Result<()>> {
    let remove = |digest: &Digest| {
        let path = inner.layout.blob(digest);
        inner.digests.hold(digest, || {
            inner.disk.remove_file(&path).map_err(|error| blob::failure("delete", digest, error))?;
            inner.names.changed(digest, false);
            Ok(())
        })
    };
    let mut results: Vec<Result<()>> = digests.iter().map(remove).collect();
    for algorithm in Algorithm::ALL {
        let is_gone = |at: &usize| digests[*at].algorithm() == algorithm && results[*at].is_ok();
        let mut gone: Vec<usize> = (0..digests.len()).filter(is_gone).collect();
        if gone.is_empty() {
            continue;
        }
        let mut fail = |at: usize, what: &str, failure: &io::Error| {
            let error = io::Error::new(failure.kind(), failure.to_string());
            results[at] = Err(blob::failure(what, &digests[at], error));
        };
        if let Err(failure) = inner.disk.sync_folder(&inner.layout.blobs_of(algorithm)) {
            gone.into_iter().for_each(|at| fail(at, "delete", &failure));
            continue;
        }
        gone.retain(|&at| {
            inner.remove_labels_of_absent(&digests[at]).unwrap_or_else(|failure| {
                fail(at, DELETE_LABELS, &failure);
                false
            })
        });
        if gone.is_empty() {
            continue;
        }
        if let Err(failure) = inner.disk.sync_folder(&inner.layout.labels_of(algorithm)) {
            gone.into_iter().for_each(|at| fail(at, DELETE_LABELS, &failure));
        }
    }
    results
}

#[async_trait]
impl Ingester for LocalStore {
    async fn ingest(&self, key: &str, options: IngestOptions) -> Result<Box<dyn Ingest>> {
        let key = key.to_owned();
        self.run(move |inner| {
            let ingest = LocalIngest::open(inner, &key, options)?;
            Ok(Box::new(ingest) as Box<dyn Ingest>)
        })
        .await
    }
}

#[async_trait]
impl IngestFollower for LocalStore {
    async fn follow(&self, key: &str, size_bytes: u64) -> Result<Arc<dyn FollowedIngest>> {
        let key = key.to_owned();
        self.run(move |inner| {
            let follower = Follower::open(inner, &key, size_bytes)?;
            Ok(Arc::new(follower) as Arc<dyn FollowedIngest>)
        })
        .await
    }
}

#[async_trait]
impl IngestCatalog for LocalStore {
    async fn ingest_status(&self, key: &str) -> Result<IngestStatus> {
        let key = key.to_owned();
        self.run(move |inner| {
            record::read(&inner.layout.ingest(&key))
                .map_err(|error| Error::io(format!("cannot look at ingest {key}"), error))?
                .filter(|status| status.key == key)
                .ok_or_else(|| absent_ingest(&key))
        })
        .await
    }

    async fn list_ingests(&self, filters: &Filters) -> Result<Vec<IngestStatus>> {
        let filters = filters.clone();
        self.run(move |inner| {
            let failed = |error| Error::io("cannot list ingests", error);
            let mut found = Vec::new();
            for entry in fs::read_dir(inner.layout.ingests()).map_err(failed)? {
                let folder = entry.map_err(failed)?.path();
                let status = record::read(&folder).map_err(failed)?;
                // One that another key's name leads to cannot be reached, whatever it says.
                found.extend(status.filter(|status| inner.layout.ingest(&status.key) == folder));
            }
            found.retain(|status| filters.matches(status));
            found.sort_by(|first, second| first.key.cmp(&second.key));
            Ok(found)
        })
        .await
    }

    async fn abort(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.run(move |inner| {
            inner
                .remove_ingest(&inner.layout.ingest(&key))
                .inspect(|()| inner.tellers.give_up(&key))
                .and_then(|()| inner.disk.sync_folder(&inner.layout.ingests()))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => absent_ingest(&key),
                    _ => Error::io(format!("cannot abort ingest {key}"), error),
                })
        })
        .await
    }
}

impl Inner {
    /// Whether the blob exists, after whoever is committing or deleting it.
    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.digests.hold(digest, || self.has_blob_while_held(digest))
    }

    /// The same for who holds the lock of `digest`.
    pub(crate) fn has_blob_while_held(&self, digest: &Digest) -> Result<bool> {
        match blob::info(&self.layout.blob(digest), digest) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == corten_types::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the folder of an ingest, or whatever is in its place.
    pub(crate) fn remove_ingest(&self, folder: &Path) -> io::Result<()> {
        if folder.symlink_metadata()?.is_dir() {
            self.disk.remove_dir_all(folder)
        } else {
            self.disk.remove_file(folder)
        }
    }

    /// What is known of the blob, its labels among it if they are kept.
    fn info(&self, digest: &Digest) -> Result<BlobInfo> {
        let mut info = blob::info(&self.layout.blob(digest), digest)?;
        if self.keeps_labels
            && let Some((labels, updated_at)) = labels::read(&self.layout.labels(digest), digest)?
        {
            info.labels = labels;
            info.updated_at = info.updated_at.max(updated_at);
        }
        Ok(info)
    }

    /// Checks the labels of a commit; they are dropped if none are kept.
    pub(crate) fn check_labels(&self, labels: &mut Labels, digest: &Digest) -> Result<()> {
        if self.keeps_labels {
            return labels::finish(labels, digest);
        }
        labels.clear();
        Ok(())
    }

    /// Keeps the labels of a blob that is about to be published: whoever sees the blob sees them. The caller holds the lock of
    /// `digest`.
    pub(crate) fn keep_labels(&self, digest: &Digest, labels: &Labels) -> Result<()> {
        if !self.keeps_labels {
            return Ok(());
        }
        labels::write(&self.disk, &self.layout.labels(digest), digest, labels)
    }

    /// Durably: labels that came back with a power cut would be those of a blob that was committed anew without any.
    fn forget_labels(&self, digest: &Digest) -> io::Result<()> {
        if self.remove_labels(digest)? {
            self.disk.sync_folder(&self.layout.labels_of(digest.algorithm()))?;
        }
        Ok(())
    }

    /// The same, not yet durably, if nobody has committed the blob again meanwhile: the labels are that commit's then. Says
    /// whether there were any.
    fn remove_labels_of_absent(&self, digest: &Digest) -> io::Result<bool> {
        self.digests.hold(digest, || match self.layout.blob(digest).symlink_metadata() {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.remove_labels(digest),
            Err(error) => Err(error),
        })
    }

    fn remove_labels(&self, digest: &Digest) -> io::Result<bool> {
        let file = self.layout.labels(digest);
        if !self.keeps_labels || file.symlink_metadata().is_err() {
            return Ok(false);
        }
        self.disk.remove_file(&file).map(|()| true)
    }

    /// The digests that names of files make.
    fn read_names(&self) -> Result<Vec<Digest>> {
        let failed = |error| Error::io("cannot list blobs", error);
        let mut digests = Vec::new();
        for algorithm in Algorithm::ALL {
            for entry in fs::read_dir(self.layout.blobs_of(algorithm)).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                digests
                    .extend(name.to_str().and_then(|hex| format!("{}:{hex}", algorithm.name()).parse().ok()));
            }
        }
        Ok(digests)
    }
}

/// Runs `action` where it may block. It runs to its end also if the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(action).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::unavailable("the content store is shutting down")),
        },
    }
}

pub(crate) fn unlabelled_info(digest: Digest, size_bytes: u64, committed_at: SystemTime) -> BlobInfo {
    BlobInfo { digest, size_bytes, created_at: committed_at, updated_at: committed_at, labels: Labels::new() }
}

pub(crate) fn absent_ingest(key: &str) -> Error {
    Error::not_found(format!("ingest {key}"))
}

fn is_absent_or_damaged(error: &Error) -> bool {
    matches!(error.kind(), corten_types::ErrorKind::NotFound | corten_types::ErrorKind::DataLoss)
}
