//! Where a mount goes: the target, or a folder below it that no symbolic link can move outside (row R01).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The kernel gives up with EAGAIN when a rename races with the lookup.
const RACES_TOLERATED: usize = 32;

/// A place that mount calls can name.
pub(crate) enum Place {
    /// The target itself.
    Target(PathBuf),
    /// A folder below it, held open.
    Below(OwnedFd),
}

impl Place {
    /// A path for the system call. It stays right while `self` lives.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Target(path) => path.clone(),
            Self::Below(folder) => PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())),
        }
    }
}

/// Finds `below` under `target`; links and `..` are resolved as if `target` were the root.
///
/// What is found is what is mounted there now: look again after a mount to name the new one.
pub(crate) fn place(target: &Path, below: &str) -> Result<Place> {
    if below.trim_matches('/').is_empty() {
        return Ok(Place::Target(target.to_owned()));
    }
    let describe = || format!("cannot open {below:?} below the mount target {}", target.display());
    let folder = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, folder | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| Error::io(describe(), error.into()))?;
    for _ in 0..RACES_TOLERATED {
        let rules = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&root, below, folder, Mode::empty(), rules) {
            Ok(found) => return Ok(Place::Below(found)),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(Error::io(describe(), error.into())),
        }
    }
    Err(Error::unavailable(format!("{}: it is being renamed all the time", describe())))
}
