//! Rows and folders as they are, damaged ones included, and the few changes that a repair makes.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use corten_disk::Disk;
use corten_types::{Error, Result};

use crate::{Metastore, Row, Trees, local::doubts};

/// What an [`Inspector`] looks into: an open snapshotter, or its folders and rows without one.
pub(crate) trait Parts: Send + Sync {
    fn metastore(&self) -> &Metastore;
    fn trees(&self) -> &Trees;
    /// The folder that holds the files of a snapshot.
    fn files(&self, id: u64) -> PathBuf;
    /// Where the manifest of a snapshot's files is kept.
    fn manifest(&self, id: u64) -> PathBuf;
    fn quarantine(&self) -> Option<String>;
    fn release_quarantine(&self) -> Result<()>;
}

/// A look into a snapshotter from below: for programs that check and repair it. Cheap to clone. Every call blocks.
///
/// What it changes keeps the order of things but asks nobody: the caller holds whatever locks there are above.
#[derive(Clone)]
pub struct Inspector(Arc<dyn Parts>);

/// A row of a snapshotter that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSnapshot {
    /// Its number.
    pub id: u64,
    /// What is wrong.
    pub problem: String,
    /// Its columns, as SQL writes them.
    pub content: String,
}

/// The folders of a snapshotter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// Numbers that have one.
    pub ids: BTreeSet<u64>,
    /// Half made or half removed ones.
    pub unfinished: Vec<PathBuf>,
}

impl Inspector {
    pub(crate) fn new(parts: Arc<dyn Parts>) -> Self {
        Self(parts)
    }

    /// Opens the rows and folders under `root` (absolute) without setting anything right. The files of a snapshot are in
    /// `files` below its folder: `fs` for overlayfs, nothing for plain copies.
    ///
    /// # Errors
    /// `Unavailable`: another process has it open. Others: the disk.
    pub fn open(root: &Path, files: &'static str, disk: Disk) -> Result<Self> {
        let trees = Trees::open(root, disk.clone())?;
        let (metastore, opened) = Metastore::open(&root.join("metastore.db"), disk)?;
        let listing = trees.listing()?;
        let quarantine = doubts(&trees, &metastore, &opened, &listing)?;
        Ok(Self(Arc::new(Closed { trees, metastore, files, quarantine, released: AtomicBool::new(false) })))
    }

    /// The folder that everything is under.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.trees().root()
    }

    /// Gives back the memory in which the database keeps pages for being read again.
    ///
    /// # Errors
    /// Those of the database.
    pub fn release_memory(&self) -> Result<()> {
        self.0.metastore().database().release_memory().wait()
    }

    /// Why nothing may be removed for want of a row, if that is so.
    #[must_use]
    pub fn quarantine(&self) -> Option<String> {
        self.0.quarantine()
    }

    /// Ends the quarantine.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn release_quarantine(&self) -> Result<()> {
        self.0.release_quarantine()
    }

    /// Up to `limit` rows after the number `after`, in the order of their numbers.
    ///
    /// # Errors
    /// Those of the database. A row with a wrong checksum is none.
    pub fn rows(&self, after: u64, limit: usize) -> Result<Vec<Result<Row, DamagedSnapshot>>> {
        self.0.metastore().scan(after, limit)
    }

    /// The row of the snapshot called `name`, if there is one.
    ///
    /// # Errors
    /// `DataLoss`: it is damaged.
    pub fn row(&self, name: &str) -> Result<Option<Row>> {
        match self.0.metastore().get(name) {
            Err(error) if error.kind() == corten_types::ErrorKind::NotFound => Ok(None),
            row => row.map(Some),
        }
    }

    /// The row with this number, if there is one.
    ///
    /// # Errors
    /// `DataLoss`: it is damaged.
    pub fn row_of(&self, id: u64) -> Result<Option<Row>> {
        self.0.metastore().by_id(id)
    }

    /// The folders that are there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn folders(&self) -> Result<Folders> {
        let listing = self.0.trees().listing()?;
        Ok(Folders { ids: listing.ids, unfinished: listing.unfinished })
    }

    /// The numbers of removed snapshots whose folders may still be there.
    ///
    /// # Errors
    /// Those of the database.
    pub fn tombstones(&self) -> Result<Vec<u64>> {
        self.0.metastore().tombstones()
    }

    /// The folder of a snapshot, absolute.
    #[must_use]
    pub fn folder(&self, id: u64) -> PathBuf {
        self.0.trees().folder(id)
    }

    /// The folder with the files of a snapshot, absolute.
    #[must_use]
    pub fn files(&self, id: u64) -> PathBuf {
        self.0.files(id)
    }

    /// Where the manifest of a snapshot's files is, absolute, if its row says that it has one.
    #[must_use]
    pub fn manifest(&self, id: u64) -> PathBuf {
        self.0.manifest(id)
    }

    /// Moves the folder of a snapshot to `target` on the same filesystem, whose parent exists. Whether there was one.
    ///
    /// # Errors
    /// Those of the disk; it is where it was, or at `target` if only a sync failed.
    pub fn set_aside(&self, id: u64, target: &Path) -> Result<bool> {
        let trees = self.0.trees();
        let folder = trees.folder(id);
        if folder.symlink_metadata().is_err() {
            return Ok(false);
        }
        let parents = [folder.parent(), target.parent()];
        trees
            .disk()
            .rename(&folder, target)
            .and_then(|()| {
                parents.into_iter().flatten().try_for_each(|parent| trees.disk().sync_folder(parent))
            })
            .map_err(|error| Error::io(format!("cannot set {} aside", folder.display()), error))?;
        Ok(true)
    }

    /// Drops the row of a snapshot and leaves its folder alone. Nothing may stand on it.
    ///
    /// # Errors
    /// `FailedPrecondition`: something stands on it. Others: the database. Nothing changed.
    pub fn forget(&self, id: u64) -> Result<()> {
        self.0.metastore().drop_row(id)
    }

    /// Adds rows whose number and name are free and whose parents are there or among them. Says which were added.
    ///
    /// # Errors
    /// Those of the database; some may have been added.
    pub fn restore(&self, rows: Vec<Row>) -> Result<Vec<Row>> {
        self.0.metastore().restore(rows)
    }

    /// Reads what is left of the rows in the database `damaged` (absolute), which was set aside, through a copy in the
    /// folder `scratch`. Whether every page could be read.
    ///
    /// # Errors
    /// `DataLoss`: nothing can be read. Others: the disk.
    pub fn salvage(damaged: &Path, scratch: &Path) -> Result<(Vec<Row>, bool)> {
        Metastore::salvage(damaged, scratch)
    }

    /// Looks at every page and index of the database, and says what is wrong: nothing if all is well.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn check_database(&self) -> Result<Vec<String>> {
        self.0.metastore().check()
    }

    /// Makes every index of the database anew.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub fn reindex(&self) -> Result<()> {
        self.0.metastore().reindex()
    }

    /// Closes the database, if no snapshotter has it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn close(&self) -> Result<()> {
        self.0.metastore().close()
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inspector").field("root", &self.root()).finish_non_exhaustive()
    }
}

/// Rows and folders that no snapshotter has open.
struct Closed {
    trees: Trees,
    metastore: Metastore,
    files: &'static str,
    quarantine: Option<String>,
    released: AtomicBool,
}

impl Parts for Closed {
    fn metastore(&self) -> &Metastore {
        &self.metastore
    }

    fn trees(&self) -> &Trees {
        &self.trees
    }

    fn files(&self, id: u64) -> PathBuf {
        let folder = self.trees.folder(id);
        if self.files.is_empty() { folder } else { folder.join(self.files) }
    }

    fn manifest(&self, id: u64) -> PathBuf {
        if self.files.is_empty() { self.trees.manifest(id) } else { self.trees.folder(id).join("manifest") }
    }

    fn quarantine(&self) -> Option<String> {
        self.quarantine.clone().filter(|_| !self.released.load(Ordering::Relaxed))
    }

    fn release_quarantine(&self) -> Result<()> {
        self.metastore.release_quarantine()?;
        self.metastore.store_id().write(self.trees.disk(), self.trees.root())?;
        self.released.store(true, Ordering::Relaxed);
        Ok(())
    }
}
