//! Scripted failures and power cuts, and what the disk may hold after them.
//!
//! A [`Script`] watches one folder. The operations really happen there; beside them it keeps what was synced, so that
//! [`Script::after_power_loss`] can lay out the states in which a disk may be found. It is pessimistic as POSIX is:
//! the name of a new file is kept only by a sync of its folder, and bytes whose sync failed are not kept by a later one.
//!
//! Files that are made or changed without passing the seam are noticed when the power goes and when the filesystem is
//! synced; names that end in `-shm` (SQLite's shared memory) are left out.

mod model;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::model::Model;
use crate::{
    disk::Disk,
    seam::{Operation, Seam, Step},
};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`, and nothing is done. What a failed sync was for is lost for good, as in Linux.
    Io,
    /// `ENOSPC`; half of a write is written.
    Full,
}

/// What became of changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// All of them arrived.
    Kept,
    /// None of them did.
    Dropped,
    /// All names arrived and no bytes: the classic rename without a sync.
    NamesOnly,
    /// Some of them did: a part of the names in order, and of the writes any, and halves; the number chooses.
    Torn(u64),
}

impl Unsynced {
    /// The states that a sweep tries for each cut.
    pub const ALL: [Self; 5] = [Self::Kept, Self::Dropped, Self::NamesOnly, Self::Torn(1), Self::Torn(2)];
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    Never,
    Fail(usize, Fault),
    Cut(usize),
}

/// A disk that counts its operations and does one of them the harm it was told to.
pub struct Script {
    root: PathBuf,
    plan: Plan,
    state: Mutex<State>,
}

struct State {
    model: Model,
    log: Vec<String>,
    has_fired: bool,
    is_off: bool,
}

impl Script {
    /// A script that lets everything in `root` pass and counts.
    ///
    /// # Panics
    /// If `root` cannot be read; what is in it counts as synced.
    #[must_use]
    pub fn never_fails(root: &Path) -> Arc<Self> {
        Self::new(root, Plan::Never)
    }

    /// A script that fails operation `number` (from 0), once.
    ///
    /// # Panics
    /// As for [`Script::never_fails`].
    #[must_use]
    pub fn fails_at(root: &Path, number: usize, fault: Fault) -> Arc<Self> {
        Self::new(root, Plan::Fail(number, fault))
    }

    /// A script that cuts the power before operation `number` (from 0): it and all later ones fail and do nothing.
    ///
    /// # Panics
    /// As for [`Script::never_fails`].
    #[must_use]
    pub fn cuts_power_at(root: &Path, number: usize) -> Arc<Self> {
        Self::new(root, Plan::Cut(number))
    }

    fn new(root: &Path, plan: Plan) -> Arc<Self> {
        let root = root.canonicalize().expect("the root of a script exists");
        let model = Model::of(&root).expect("the root of a script can be read");
        let state = State { model, log: Vec::new(), has_fired: false, is_off: false };
        Arc::new(Self { root, plan, state: Mutex::new(state) })
    }

    /// The disk to hand to the code under test.
    #[must_use]
    pub fn disk(self: &Arc<Self>) -> Disk {
        Disk::with_seam(Arc::clone(self) as Arc<dyn Seam>)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations came by.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.lock().log.len()
    }

    /// Whether the operation that was to fail, or the cut, was reached.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        self.lock().has_fired
    }

    /// The operations that came by, one a line.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// Lays out below `target` (an existing, empty folder) what the disk may hold if the power went now, or when it was
    /// cut. Everything that is open on this script fails from now on. It may be called again for other states.
    ///
    /// # Errors
    /// Those of the system while writing.
    pub fn after_power_loss(&self, unsynced: Unsynced, target: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if !state.is_off {
            state.model.rescan(&self.root)?;
            state.is_off = true;
        }
        state.model.materialise(unsynced, target)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Script")
            .field("root", &self.root)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Seam for Script {
    fn before(&self, operation: &Operation<'_>) -> Step {
        let mut state = self.lock();
        if state.is_off {
            return Step::Fail(io::Error::other("the power is off"));
        }
        if let Err(error) = state.model.meet(&self.root, operation) {
            return Step::Fail(error);
        }
        if !operation.is_durable() {
            return Step::Go;
        }
        let number = state.log.len();
        state.log.push(describe(number, &self.root, operation));
        match self.plan {
            Plan::Cut(at) if at == number => {
                state.has_fired = true;
                state.is_off = true;
                if let Err(error) = state.model.rescan(&self.root) {
                    return Step::Fail(error);
                }
                Step::Fail(io::Error::other("the power is off"))
            }
            Plan::Fail(at, fault) if at == number => {
                state.has_fired = true;
                state.model.fail(operation);
                match (fault, operation) {
                    (Fault::Io, _) => Step::Fail(io::Error::from_raw_os_error(libc::EIO)),
                    (Fault::Full, Operation::Write { data, .. }) => Step::Short {
                        bytes: data.len() / 2,
                        error: io::Error::from_raw_os_error(libc::ENOSPC),
                    },
                    (Fault::Full, _) => Step::Fail(io::Error::from_raw_os_error(libc::ENOSPC)),
                }
            }
            _ => Step::Go,
        }
    }

    fn after(&self, operation: &Operation<'_>) {
        let mut state = self.lock();
        if !state.is_off {
            state.model.apply(&self.root, operation);
        }
    }
}

fn describe(number: usize, root: &Path, operation: &Operation<'_>) -> String {
    let short = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let what = match operation {
        Operation::Create { path, .. } => format!("create {}", short(path)),
        Operation::Open { path, .. } => format!("open {}", short(path)),
        Operation::Write { path, offset, data, .. } => {
            format!("write {} at {offset}, {} bytes", short(path), data.len())
        }
        Operation::SetLength { path, length, .. } => format!("set the length of {} to {length}", short(path)),
        Operation::SetMode { path, mode, .. } => format!("set the mode of {} to {mode:o}", short(path)),
        Operation::SyncData { path, .. } => format!("sync the data of {}", short(path)),
        Operation::SyncAll { path, .. } => format!("sync {}", short(path)),
        Operation::Rename { from, to } => format!("rename {} to {}", short(from), short(to)),
        Operation::HardLink { from, to } => format!("link {} as {}", short(from), short(to)),
        Operation::RemoveFile { path } => format!("remove {}", short(path)),
        Operation::RemoveTree { path } => format!("remove the tree {}", short(path)),
        Operation::CreateFolder { path, .. } => format!("create the folder {}", short(path)),
        Operation::SyncFolder { path } => format!("sync the folder {}", short(path)),
        Operation::SyncFilesystem { path } => format!("sync the filesystem of {}", short(path)),
    };
    format!("{number}: {what}")
}
