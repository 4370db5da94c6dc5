//! The stores that are checked: opened for that, or those of a daemon that serves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_content_store::LocalStore;
use corten_disk::Disk;
use corten_metadata::{Metadata, Options};
use corten_snapshotter::Inspector;
use corten_types::{Error, Result};

/// Where things are. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The root of the content store.
    pub content: PathBuf,
    /// The metadata database.
    pub metadata: PathBuf,
    /// The snapshotters.
    pub snapshotters: Vec<SnapshotterLayout>,
    /// The folder of bundles, with a folder a namespace in it: what runs is found there.
    pub bundles: Option<PathBuf>,
}

/// Where a snapshotter is.
#[derive(Clone, Debug)]
pub struct SnapshotterLayout {
    /// The name that clients use.
    pub name: String,
    /// Its root.
    pub root: PathBuf,
    /// Where the files of a snapshot are below its folder: `fs` for overlayfs, nothing for plain copies.
    pub files: &'static str,
}

/// The stores that are checked together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) metadata: Metadata,
    pub(crate) content: LocalStore,
    pub(crate) snapshotters: BTreeMap<String, Inspector>,
    pub(crate) bundles: Option<PathBuf>,
    pub(crate) disk: Disk,
    is_served: bool,
}

impl Store {
    /// Opens stores that nobody has open; the caller holds the lock of their root. Nothing is set right, except what
    /// opening a database always does: a damaged one is set aside under a dated name and a new one begun.
    ///
    /// # Errors
    /// `NotFound`: there is no store. `Unavailable`: somebody has it open. Others: the disk.
    pub async fn open(layout: Layout) -> Result<Self> {
        let disk = Disk::new();
        let Layout { content, metadata, snapshotters, bundles } = layout;
        let folder = metadata.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() && !content.is_dir() {
            return Err(Error::not_found(format!(
                "there is no store: neither {} nor {} exists",
                folder.display(),
                content.display()
            )));
        }
        disk.create_dir_all(folder, 0o711)
            .map_err(|error| Error::io(format!("cannot make {}", folder.display()), error))?;
        let mut folders = Vec::new();
        let mut inspectors = BTreeMap::new();
        let mut doubts = Vec::new();
        for SnapshotterLayout { name, root, files } in snapshotters {
            if !root.is_dir() {
                continue;
            }
            let inspector = Inspector::open(&root, files, disk.clone())?;
            doubts.extend(inspector.quarantine());
            folders.push(root);
            inspectors.insert(name, inspector);
        }
        let store = LocalStore::open(&content, disk.clone())?;
        folders.push(content);
        let mut options = Options::new(metadata, Arc::new(store.clone()));
        options.automatic = false;
        options.reconcile = false;
        options.folders = folders;
        options.doubts = doubts;
        let metadata = Metadata::open(options).await?;
        Ok(Self { metadata, content: store, snapshotters: inspectors, bundles, disk, is_served: false })
    }

    /// The stores of a daemon that serves: whatever changes meanwhile is looked at again, and changes take the locks that
    /// removals take.
    #[must_use]
    pub fn serving(
        metadata: Metadata,
        content: LocalStore,
        snapshotters: BTreeMap<String, Inspector>,
        bundles: Option<PathBuf>,
    ) -> Self {
        Self { metadata, content, snapshotters, bundles, disk: Disk::new(), is_served: true }
    }

    /// Closes stores that were opened; those of a daemon stay open.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn close(&self) -> Result<()> {
        if self.is_served {
            return Ok(());
        }
        for inspector in self.snapshotters.values() {
            let inspector = inspector.clone();
            blocking(move || inspector.close()).await?;
        }
        self.metadata.close().await
    }

    /// Where the file of a blob is.
    pub(crate) fn blob_path(&self, digest: &corten_types::Digest) -> PathBuf {
        self.content.root().join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("a check did not finish").with_source(error)))
}
