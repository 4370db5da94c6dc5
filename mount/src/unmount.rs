//! Unmounting: patient, whole stacks, deepest first (row R09).

use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_types::{Error, Mount, Result};
use rustix::io::Errno;
use rustix::mount::UnmountFlags as Kernel;

use crate::mountinfo::{length_bytes, mounts_below};
use crate::resolve::place;

/// How often a busy mount is tried.
const BUSY_ATTEMPTS: usize = 50;

/// How long is waited between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// How to unmount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnmountFlags {
    /// Takes the mount out of sight now and lets it go when its last user does.
    pub detach: bool,
    /// Gives up what cannot be reached any more (network filesystems).
    pub force: bool,
    /// Does not follow a symbolic link at the end of the target.
    pub no_follow: bool,
}

impl UnmountFlags {
    /// Waits for users a while, then fails.
    pub const NONE: Self = Self { detach: false, force: false, no_follow: false };
    /// Never fails because of users.
    pub const DETACH: Self = Self { detach: true, force: false, no_follow: false };

    fn kernel(self) -> Kernel {
        let mut flags = Kernel::empty();
        flags.set(Kernel::DETACH, self.detach);
        flags.set(Kernel::FORCE, self.force);
        flags.set(Kernel::NOFOLLOW, self.no_follow);
        flags
    }
}

/// Unmounts everything that is stacked at `target`. Nothing mounted, or no such path, is fine.
///
/// A busy mount is tried 50 times in 2.5 seconds. This blocks the thread.
///
/// # Errors
/// `Unavailable`: still busy. `PermissionDenied`: not root. What was unmounted until then stays unmounted.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<()> {
    if target.as_os_str().is_empty() {
        return Ok(());
    }
    while unmount_one(target, flags)? {}
    Ok(())
}

/// Unmounts what is at `target` and below it, the longest paths first.
///
/// # Errors
/// As [`unmount`]: the last failure, after every mount was tried.
pub fn unmount_recursive(target: &Path, flags: UnmountFlags) -> Result<()> {
    if target.as_os_str().is_empty() {
        return Ok(());
    }
    let real = match target.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        // What is dead (a fuse daemon, a server) cannot be looked at, but can be unmounted.
        Err(_) => target.to_owned(),
    };
    let mut points: Vec<PathBuf> = mounts_below(&real)?.into_iter().map(|entry| entry.mount_point).collect();
    points.sort_by(|left, right| length_bytes(right).cmp(&length_bytes(left)).then_with(|| left.cmp(right)));
    points.dedup();
    let mut result = Ok(());
    for point in points {
        if let Err(error) = unmount(&point, flags) {
            result = Err(error);
        }
    }
    result
}

/// Undoes [`mount_all`](crate::mount_all) of `mounts` at `target`, the last one first.
///
/// # Errors
/// As [`unmount`]: the last failure, after every mount was tried.
pub fn unmount_mounts(mounts: &[Mount], target: &Path, flags: UnmountFlags) -> Result<()> {
    let mut result = Ok(());
    for description in mounts.iter().rev() {
        let undone = if description.target.trim_matches('/').is_empty() {
            unmount(target, flags)
        } else {
            match place(target, &description.target) {
                Ok(place) => {
                    // Held open, the folder would keep its own mount busy: only the path goes on.
                    let path = std::fs::read_link(place.path()).unwrap_or_else(|_| place.path());
                    drop(place);
                    unmount(&path, UnmountFlags { no_follow: true, ..flags })
                }
                Err(error) if error.kind() == corten_types::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        };
        if let Err(error) = undone {
            result = Err(error);
        }
    }
    result
}

/// Unmounts the topmost mount at `target`; `false` if there was none.
pub(crate) fn unmount_one(target: &Path, flags: UnmountFlags) -> Result<bool> {
    let what = || format!("cannot unmount {}", target.display());
    for attempt in 0..BUSY_ATTEMPTS {
        match rustix::mount::unmount(target, flags.kernel()) {
            Ok(()) => return Ok(true),
            // Not a mount point, or not there at all.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(Errno::BUSY) if attempt + 1 < BUSY_ATTEMPTS => std::thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(Error::io(what(), error.into())),
        }
    }
    unreachable!("the last attempt returns")
}
