//! Syncing a whole filesystem, and asking how much room it has.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{
    file::pass,
    seam::{Operation, Seam},
};

/// The filesystems that are being watched, by device number. They are forgotten with their last watcher, so that they
/// can be unmounted.
pub(crate) type Groups = Arc<Mutex<HashMap<u64, Weak<Group>>>>;

/// A watch on one filesystem, see [`Disk::filesystem_sync`](crate::Disk::filesystem_sync).
///
/// All watches of one filesystem share a descriptor: the kernel reports a failed write-back once to each descriptor that
/// was open before it, and here it is handed on to every watch that was open then.
#[derive(Debug)]
pub struct FilesystemSync {
    folder: PathBuf,
    group: Arc<Group>,
    failures_before: u64,
    seam: Option<Arc<dyn Seam>>,
}

impl FilesystemSync {
    pub(crate) fn open(folder: &Path, groups: &Groups, seam: Option<Arc<dyn Seam>>) -> io::Result<Self> {
        let descriptor = File::open(folder)?;
        let device = descriptor.metadata()?.dev();
        let group = {
            let mut groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.retain(|_, group| group.strong_count() > 0);
            match groups.get(&device).and_then(Weak::upgrade) {
                Some(group) => group,
                None => {
                    let group = Arc::new(Group::new(descriptor));
                    groups.insert(device, Arc::downgrade(&group));
                    group
                }
            }
        };
        let failures_before = group.lock().failures;
        Ok(Self { folder: folder.to_owned(), group, failures_before, seam })
    }

    /// Waits until everything that was written to the filesystem before this call is on stable storage.
    ///
    /// Calls at the same time share: one that comes while a sync runs waits for the next, together with all others
    /// that came meanwhile. It blocks.
    ///
    /// # Errors
    /// The system's error if any write-back failed since this watch was opened, also for another's file: what reached
    /// the disk is then unknown, and every later call fails too.
    pub fn sync(&self) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::SyncFilesystem { path: &self.folder }, || {
            self.group.sync(self.failures_before)
        })
    }

    /// How many syncs of this filesystem were really done while it was watched.
    #[must_use]
    pub fn syncs_done(&self) -> u64 {
        self.group.lock().finished
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    descriptor: File,
    rounds: Mutex<Rounds>,
    round_over: Condvar,
}

#[derive(Debug, Default)]
struct Rounds {
    started: u64,
    finished: u64,
    running: bool,
    failures: u64,
    last_failure: Option<i32>,
}

impl Group {
    fn new(descriptor: File) -> Self {
        Self { descriptor, rounds: Mutex::default(), round_over: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self, failures_before: u64) -> io::Result<()> {
        let mut rounds = self.lock();
        // A round that runs already may have passed what the caller wrote, so it takes one that starts from now on.
        let awaited = rounds.started + 1;
        while rounds.finished < awaited {
            if rounds.running {
                rounds = self.round_over.wait(rounds).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            rounds.running = true;
            rounds.started += 1;
            drop(rounds);
            let result = rustix::fs::syncfs(&self.descriptor);
            rounds = self.lock();
            rounds.running = false;
            rounds.finished = rounds.started;
            if let Err(error) = result {
                rounds.failures += 1;
                rounds.last_failure = Some(error.raw_os_error());
            }
            self.round_over.notify_all();
        }
        match rounds.last_failure {
            Some(code) if rounds.failures > failures_before => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }
}

/// How much room a filesystem has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The bytes that this user can still write.
    pub free_bytes: u64,
    /// The size.
    pub total_bytes: u64,
    /// The files that can still be made; zero also where the filesystem has no fixed number.
    pub free_files: u64,
    /// The files that there can be at the most; zero where the filesystem has no fixed number.
    pub total_files: u64,
}

/// Asks how much room the filesystem of `path` has.
///
/// # Errors
/// Those of the system.
pub fn space(path: &Path) -> io::Result<Space> {
    let answer = rustix::fs::statvfs(path)?;
    Ok(Space {
        free_bytes: answer.f_bavail.saturating_mul(answer.f_frsize),
        total_bytes: answer.f_blocks.saturating_mul(answer.f_frsize),
        free_files: answer.f_favail,
        total_files: answer.f_files,
    })
}
