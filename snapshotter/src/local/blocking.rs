//! The operations of a local snapshotter, one after the other in the calling thread.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_disk::{Disk, FilesystemSync};
use corten_filter::Filters;
use corten_types::{Error, Labels, Mount, Result, UpdateMask};

use super::driver::{Driver, Placement, Removal};
use super::open::{self, OpenReport};
use crate::metastore::{Commit, now};
use crate::{Kind, Metastore, Row, SnapshotInfo, Trees, Usage, disk_usage};

#[derive(Debug)]
pub(super) struct Blocking<D> {
    pub(super) driver: D,
    pub(super) trees: Trees,
    pub(super) metastore: Metastore,
    pub(super) report: OpenReport,
    /// For snapshots that were made before this open: a failed write-back since then makes their commits fail.
    watch: FilesystemSync,
    /// For each snapshot that was made since: a watch from before its first byte.
    watches: Mutex<HashMap<u64, FilesystemSync>>,
    /// Two cleanups would remove the same folders.
    cleaning: Mutex<()>,
}

impl<D: Driver> Blocking<D> {
    pub(super) fn open(root: &Path, options: D::Options, disk: Disk) -> Result<Self> {
        let trees = Trees::open(root, disk.clone())?;
        let (metastore, opened) = Metastore::open(&root.join("metastore.db"), disk)?;
        let driver = D::open(&trees, options)?;
        let watch = trees.watch()?;
        let report = open::set_right(&driver, &trees, &metastore, &opened)?;
        Ok(Self {
            driver,
            trees,
            metastore,
            report,
            watch,
            watches: Mutex::default(),
            cleaning: Mutex::default(),
        })
    }

    pub(super) fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        Ok(self.labelled(self.metastore.get(key)?))
    }

    pub(super) fn list(
        &self,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SnapshotInfo>> {
        self.metastore.list_with(filters, after, limit, |row| self.labelled(row))
    }

    /// Row S10: stored at the commit of a committed one, looked at for an active one, nothing for a view.
    pub(super) fn usage(&self, key: &str) -> Result<Usage> {
        let row = self.metastore.get(key)?;
        match row.info.kind {
            Kind::Active => disk_usage(&self.driver.measured(&self.trees, row.id)),
            Kind::View | Kind::Committed => Ok(row.usage.unwrap_or_default()),
        }
    }

    /// The folder first, then the row: a row without its folder would be a lie, a folder without a row is debris.
    pub(super) fn create(&self, kind: Kind, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        if key.is_empty() {
            return Err(Error::invalid_argument("a snapshot needs a key"));
        }
        let parents = self.metastore.check_new(key, parent)?;
        let placement = Placement { id: self.metastore.reserve_id(), kind, parents, labels };
        // From before the first byte, or a write-back that fails before the commit goes unnoticed.
        let watch = self.trees.watch()?;
        let made = self.driver.create(&self.trees, &placement).and_then(|()| {
            if self.driver.is_durable_from_the_start(&placement) {
                watch.sync().map_err(|error| Error::io(format!("cannot sync snapshot {key:?}"), error))?;
            }
            self.insert(key, parent, &placement)
        });
        if let Err(error) = made {
            self.take_back(placement.id);
            return Err(error);
        }
        self.watches().insert(placement.id, watch);
        Ok(self.driver.mounts(&self.trees, &placement))
    }

    pub(super) fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let found = self.metastore.chained(key)?;
        if found.row.info.kind == Kind::Committed {
            return Err(Error::failed_precondition(format!(
                "snapshot {key:?} is committed, which cannot be mounted"
            )));
        }
        Ok(self.driver.mounts(&self.trees, &found.into_placement()))
    }

    /// The files first, then the row (`consistency.md` §2).
    pub(super) fn commit(&self, name: &str, key: &str, labels: Labels, parent: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid_argument(format!(
                "snapshot {key:?} cannot be committed without a name"
            )));
        }
        let row = self.metastore.check_commit(name, key, parent)?;
        if !parent.is_empty() && row.info.parent.is_empty() && !self.driver.rebases() {
            return Err(Error::invalid_argument(format!(
                "cannot put snapshot {key:?} on {parent:?}: here a snapshot gets its parent's files when it is made"
            )));
        }
        let id = row.id;
        let mut taken = self.watches().remove(&id);
        let committed = self.sync(key, taken.as_ref()).and_then(|()| {
            let usage = disk_usage(&self.driver.measured(&self.trees, id))?;
            let change = Commit {
                id,
                name: name.to_owned(),
                key: key.to_owned(),
                labels,
                parent: parent.to_owned(),
                usage,
                now: now(),
            };
            self.metastore.commit(change)
        });
        if committed.is_err()
            && let Some(watch) = taken.take()
            && !matches!(self.metastore.by_id(id), Ok(None))
        {
            // It is still active, and the next try has to see the same failures.
            self.watches().insert(id, watch);
        }
        committed
    }

    pub(super) fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        Ok(self.labelled(self.metastore.update(key, labels, mask)?))
    }

    /// The row first, then the folder, by a tombstone.
    pub(super) fn remove(&self, key: &str) -> Result<()> {
        let id = self.metastore.remove(key)?;
        self.watches().remove(&id);
        if self.driver.removal() != Removal::OnCleanup {
            // It is removed, whatever becomes of its folder: the tombstone stays for another try.
            let _ = self.trees.discard(id).and_then(|()| self.metastore.forget(vec![id]));
        }
        Ok(())
    }

    pub(super) fn cleanup(&self) -> Result<()> {
        if self.driver.removal() == Removal::AtOnce {
            return Err(Error::unimplemented(
                "this snapshotter removes snapshots at once: there is nothing to clean up",
            ));
        }
        let _alone = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        open::bury(&self.trees, &self.metastore)
    }

    pub(super) fn release_quarantine(&self) -> Result<()> {
        self.metastore.release_quarantine()?;
        self.metastore.store_id().write(self.trees.disk(), self.trees.root())
    }

    fn insert(&self, key: &str, parent: &str, placement: &Placement) -> Result<()> {
        let now = now();
        let info = SnapshotInfo {
            kind: placement.kind,
            name: key.to_owned(),
            parent: parent.to_owned(),
            labels: placement.labels.clone(),
            created_at: now,
            updated_at: now,
        };
        self.metastore.insert(placement.id, info, placement.parents.clone())
    }

    /// Removes the folder of a snapshot that did not come to be. If the database cannot say that it did not, the
    /// folder stays for the next open to judge.
    fn take_back(&self, id: u64) {
        if matches!(self.metastore.by_id(id), Ok(None)) {
            // What stays is debris for the next open.
            let _ = self.trees.discard(id);
        }
    }

    fn sync(&self, key: &str, watch: Option<&FilesystemSync>) -> Result<()> {
        watch
            .unwrap_or(&self.watch)
            .sync()
            .map_err(|error| Error::io(format!("cannot bring snapshot {key:?} to stable storage"), error))
    }

    fn labelled(&self, row: Row) -> SnapshotInfo {
        let mut info = row.info;
        self.driver.add_labels(&self.trees, row.id, &mut info.labels);
        info
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<u64, FilesystemSync>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
