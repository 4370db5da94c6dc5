//! The operations of a local snapshotter, one after the other in the calling thread.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_disk::{Disk, FilesystemSync};
use corten_filter::Filters;
use corten_types::{Error, Labels, Mount, Result, UpdateMask};

use super::driver::{Driver, Placement, Removal};
use super::meter::{MeasuredUsage, Meter};
use super::open::{self, OpenReport};
use super::recording::{Recorder, Recordings};
use super::{Tree, TreeManifest};
use crate::inspector::Parts;
use crate::metastore::{Commit, now};
use crate::usage::{Survey, survey};
use crate::{Kind, Metastore, Row, SnapshotInfo, Trees};

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
    /// What layers put into snapshots that are not committed yet.
    recordings: Arc<Recordings>,
    /// The quarantine that was found at open is over.
    released: AtomicBool,
    /// What active snapshots take.
    meter: Meter,
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
            recordings: Arc::default(),
            released: AtomicBool::new(false),
            meter: Meter::default(),
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

    /// Row S10: stored at the commit of a committed one, measured in the background for an active one, nothing for a view.
    pub(super) fn usage(&self, key: &str) -> Result<MeasuredUsage> {
        let row = self.metastore.get(key)?;
        if row.info.kind == Kind::Active {
            return self.meter.ask(row.id, self.driver.measured(&self.trees, row.id)).map_err(|error| {
                Error::new(error.kind(), format!("cannot tell what snapshot {key:?} takes"))
                    .with_source(error)
            });
        }
        Ok(MeasuredUsage { usage: row.usage.unwrap_or_default(), age: Duration::ZERO, is_whole: true })
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
        let taken = self.watches().remove(&id);
        let recorded = self.recordings.take(id);
        let committed = self.measured(key, id, taken.as_ref()).and_then(|survey| {
            let manifest = recorded.as_ref().and_then(|recorded| recorded.holds(&survey));
            let change = Commit {
                id,
                name: name.to_owned(),
                key: key.to_owned(),
                labels,
                parent: parent.to_owned(),
                usage: survey.usage,
                manifest,
                now: now(),
            };
            self.metastore.commit(change)?;
            self.meter.forget(id);
            if manifest.is_none() {
                // Nobody looks at it: the row says that there is none.
                let _ = self.trees.remove_file(&self.driver.manifest(&self.trees, id));
            }
            Ok(())
        });
        if committed.is_err() && !matches!(self.metastore.by_id(id), Ok(None)) {
            // It is still active, and the next try has to see the same failures.
            self.watches().extend(taken.map(|watch| (id, watch)));
            self.recordings.put_back(id, recorded);
        }
        committed
    }

    /// Brings the files to stable storage, and looks at all of them meanwhile.
    fn measured(&self, key: &str, id: u64, watch: Option<&FilesystemSync>) -> Result<Survey> {
        let folder = self.driver.measured(&self.trees, id);
        std::thread::scope(|scope| {
            let looking = std::thread::Builder::new()
                .name("snapshot-survey".to_owned())
                .spawn_scoped(scope, || survey(&folder));
            self.sync(key, watch)?;
            match looking {
                Ok(looking) => looking
                    .join()
                    .unwrap_or_else(|_| Err(Error::internal("measuring a snapshot did not finish"))),
                // Without another thread it takes longer.
                Err(_) => survey(&folder),
            }
        })
    }

    pub(super) fn tree(&self, key: &str) -> Result<Tree> {
        let Row { id, manifest, .. } = self.metastore.get(key)?;
        let path = self.driver.measured(&self.trees, id);
        let manifest =
            manifest.map(|checksum| TreeManifest { path: self.driver.manifest(&self.trees, id), checksum });
        Ok(Tree { id, path, manifest })
    }

    pub(super) fn record(&self, tree: &Path) -> Result<Option<Recorder>> {
        let Some(id) = self.trees.id_of(tree) else { return Ok(None) };
        if self.driver.measured(&self.trees, id) != tree {
            return Ok(None);
        }
        let is_active = self.metastore.by_id(id)?.is_some_and(|row| row.info.kind == Kind::Active);
        if !is_active {
            return Ok(None);
        }
        let mut listing = std::fs::read_dir(tree)
            .map_err(|error| Error::io(format!("cannot list {}", tree.display()), error))?;
        if listing.next().is_some() {
            // What was recorded of an earlier layer does not hold any more.
            self.recordings.take(id);
            return Ok(None);
        }
        let manifest = self.driver.manifest(&self.trees, id);
        if let Some(folder) = manifest.parent() {
            self.trees
                .disk()
                .create_dir_all(folder, 0o700)
                .map_err(|error| Error::io(format!("cannot create {}", folder.display()), error))?;
        }
        self.recordings.begin(self.trees.disk(), id, &manifest)
    }

    pub(super) fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        Ok(self.labelled(self.metastore.update(key, labels, mask)?))
    }

    /// The row first, then the folder, by a tombstone.
    pub(super) fn remove(&self, key: &str) -> Result<()> {
        let id = self.metastore.remove(key)?;
        self.discard(&[id]);
        Ok(())
    }

    /// The same for several, in their order.
    pub(super) fn remove_all(&self, keys: &[String]) -> Vec<Result<()>> {
        let buried = match self.metastore.remove_all(keys) {
            Ok(buried) => buried,
            // For one of them there was no room, or its row cannot be read: each for itself.
            Err(_) => return keys.iter().map(|key| self.remove(key)).collect(),
        };
        let ids: Vec<u64> = buried.iter().filter_map(|buried| buried.as_ref().ok().copied()).collect();
        self.discard(&ids);
        buried.into_iter().map(|buried| buried.map(drop)).collect()
    }

    /// They are removed, whatever becomes of their folders: the tombstones of those that stay are for another try.
    fn discard(&self, ids: &[u64]) {
        for id in ids {
            self.watches().remove(id);
            self.recordings.take(*id);
            self.meter.forget(*id);
        }
        if self.driver.removal() == Removal::OnCleanup {
            return;
        }
        let gone = ids.iter().filter(|id| open::discard(&self.driver, &self.trees, **id).is_ok());
        let _ = self.metastore.forget(gone.copied().collect());
    }

    pub(super) fn cleanup(&self) -> Result<()> {
        if self.driver.removal() == Removal::AtOnce {
            return Err(Error::unimplemented(
                "this snapshotter removes snapshots at once: there is nothing to clean up",
            ));
        }
        let _alone = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        open::bury(&self.driver, &self.trees, &self.metastore)
    }

    pub(super) fn release_quarantine(&self) -> Result<()> {
        self.metastore.release_quarantine()?;
        self.metastore.store_id().write(self.trees.disk(), self.trees.root())?;
        self.released.store(true, Ordering::Relaxed);
        Ok(())
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

impl<D: Driver> Parts for Blocking<D> {
    fn metastore(&self) -> &Metastore {
        &self.metastore
    }

    fn trees(&self) -> &Trees {
        &self.trees
    }

    fn files(&self, id: u64) -> PathBuf {
        self.driver.measured(&self.trees, id)
    }

    fn manifest(&self, id: u64) -> PathBuf {
        self.driver.manifest(&self.trees, id)
    }

    fn quarantine(&self) -> Option<String> {
        self.report.quarantine.clone().filter(|_| !self.released.load(Ordering::Relaxed))
    }

    fn release_quarantine(&self) -> Result<()> {
        Self::release_quarantine(self)
    }
}
