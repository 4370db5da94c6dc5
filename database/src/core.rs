//! What the writer, the readers and the checkpointer share.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use corten_disk::Disk;
use corten_types::{Error, Result};
use rusqlite::Connection;

use crate::{
    checkpoint::Checkpointer,
    connection::{self, Role},
    error::Doing,
    marker::beside,
    options::Options,
    readers::Readers,
    reserve::Reserve,
    statistics::Statistics,
};

pub(crate) struct Core {
    pub(crate) path: PathBuf,
    pub(crate) disk: Disk,
    pub(crate) readers: Readers,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) reserve: Reserve,
    pub(crate) wal_pages: Arc<AtomicU64>,
    statistics: Mutex<Statistics>,
    // After everything that may hold a connection: they need it until they are closed.
    vfs: Option<Vfs>,
}

/// SQLite's files on a disk with a seam.
#[cfg(feature = "testing")]
type Vfs = crate::vfs::Registered;
#[cfg(not(feature = "testing"))]
type Vfs = std::convert::Infallible;

pub(crate) const PAGE_BYTES: u64 = 4096;

impl Core {
    pub(crate) fn new(path: PathBuf, options: &Options) -> Result<Self> {
        let vfs = vfs_for(&options.disk)?;
        // A reserve on a scripted disk would be a step outside the script.
        let reserve_bytes = if vfs.is_some() { 0 } else { options.reserve_bytes };
        Ok(Self {
            disk: options.disk.clone(),
            readers: Readers::new(options.readers),
            checkpointer: Checkpointer::new(options.checkpoint_bytes, options.wal_limit_bytes),
            reserve: Reserve::new(beside(&path, ".reserve"), reserve_bytes),
            wal_pages: Arc::default(),
            statistics: Mutex::default(),
            vfs,
            path,
        })
    }

    /// Whether there is a script, so that nothing may run by itself.
    pub(crate) fn is_scripted(&self) -> bool {
        self.vfs.is_some()
    }

    pub(crate) fn open(&self, role: Role) -> Result<Connection> {
        let mut connection = connection::open(&self.path, self.vfs_name(), role)?;
        if role == Role::Writer {
            let pages = Arc::clone(&self.wal_pages);
            let hook = move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
                pages.store(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            };
            connection.wal_hook(Some(hook)).doing("cannot watch the length of the log")?;
            // The commit that begins the log anew cuts what is longer.
            let kept_bytes = i64::try_from(self.checkpointer.start_bytes).unwrap_or(i64::MAX);
            connection
                .pragma_update(None, "journal_size_limit", kept_bytes)
                .doing("cannot bound the length of the log")?;
        }
        Ok(connection)
    }

    /// Fails with `ResourceExhausted` if the disk has not even a page left for those who have no special rights.
    pub(crate) fn check_room(&self) -> Result<()> {
        let folder = self.path.parent().unwrap_or_else(|| "/".as_ref());
        match corten_disk::space(folder) {
            Ok(space) if !self.is_scripted() && space.total_bytes > 0 && space.free_bytes < PAGE_BYTES => {
                let what = format!("the disk of the database is full ({})", self.path.display());
                Err(Error::resource_exhausted(what))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wal_bytes(&self) -> u64 {
        self.wal_pages.load(Ordering::Relaxed) * PAGE_BYTES
    }

    #[cfg(feature = "testing")]
    fn vfs_name(&self) -> Option<&str> {
        self.vfs.as_ref().map(Vfs::name)
    }

    #[cfg(not(feature = "testing"))]
    fn vfs_name(&self) -> Option<&str> {
        None
    }
}

#[cfg(feature = "testing")]
fn vfs_for(disk: &Disk) -> Result<Option<Vfs>> {
    disk.seam().map(|seam| Vfs::register(Arc::clone(seam))).transpose()
}

#[cfg(not(feature = "testing"))]
fn vfs_for(disk: &Disk) -> Result<Option<Vfs>> {
    match disk.seam() {
        None => Ok(None),
        Some(_) => Err(Error::unimplemented("a database on a scripted disk needs the feature `testing`")),
    }
}

/// What every caller hears whose outcome could not be learnt, or who comes while the disk fails.
pub(crate) fn out_of_order(core: &Core, cause: Error) -> Error {
    let kind = match cause.kind() {
        kind @ (corten_types::ErrorKind::DataLoss | corten_types::ErrorKind::ResourceExhausted) => kind,
        _ => corten_types::ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the database {} is out of order", core.path.display())).with_source(cause)
}
