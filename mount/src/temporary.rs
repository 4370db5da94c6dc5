//! Mounts that live as long as a value: for looking into a snapshot or unpacking into it (row R08).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use corten_types::{Error, Mount, Result};

use crate::mountinfo::mounts_below;
use crate::perform::mount_all;
use crate::unmount::{UnmountFlags, unmount_recursive};

/// What the folders are called: other tools look for it.
const PREFIX: &str = "containerd-mount";

/// How many taken names are passed over.
const NAME_ATTEMPTS: usize = 1000;

/// Mounts under a folder of their own, unmounted when the value goes.
///
/// ```no_run
/// # let mounts = Vec::<corten_types::Mount>::new();
/// let folder = std::path::Path::new("/var/lib/example/tmpmounts");
/// let mounted = corten_mount::TemporaryMount::new(&mounts, folder)?;
/// println!("{:?}", std::fs::read_dir(mounted.path()));
/// mounted.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "it is unmounted when the value is dropped"]
pub struct TemporaryMount {
    path: PathBuf,
    closed: bool,
}

impl TemporaryMount {
    /// Mounts `mounts` at a new folder in `folder` (absolute; made if missing). No mounts give an empty folder.
    ///
    /// `volatile` is left out of overlays: it would make the next mount of the same upper folder fail.
    ///
    /// # Errors
    /// As [`mount_all`]. Nothing stays mounted and the new folder is gone.
    pub fn new(mounts: &[Mount], folder: &Path) -> Result<Self> {
        let path = new_folder(folder)?;
        let temporary = Self { path, closed: false };
        mount_all(&without_volatile(mounts), &temporary.path)?;
        Ok(temporary)
    }

    /// The same, read-only: the upper folder of an overlay becomes its first lower one.
    ///
    /// # Errors
    /// As [`TemporaryMount::new`].
    pub fn read_only(mounts: &[Mount], folder: &Path) -> Result<Self> {
        Self::new(&read_only_mounts(mounts), folder)
    }

    /// Where it is mounted: an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts and tells if that went wrong, unlike dropping the value.
    ///
    /// # Errors
    /// `Unavailable`: somebody uses the mount; it is detached then, and gone with its last user.
    pub fn close(mut self) -> Result<()> {
        self.closed = true;
        let patient = unmount_recursive(&self.path, UnmountFlags::NONE);
        if patient.is_err() {
            unmount_recursive(&self.path, UnmountFlags::DETACH)?;
        }
        remove_folder(&self.path)?;
        patient
    }
}

impl Drop for TemporaryMount {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        // Nobody can be told here. What stays is found by `cleanup_temporary_mounts` at the next start.
        if unmount_recursive(&self.path, UnmountFlags::DETACH).is_ok() {
            let _ = remove_folder(&self.path);
        }
    }
}

/// Unmounts and removes what a crash left of temporary mounts in `folder` (absolute). Run it before any is made.
///
/// # Errors
/// The last failure, after everything was tried. A folder that is not empty after unmounting is never emptied.
pub fn cleanup_temporary_mounts(folder: &Path) -> Result<()> {
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(format!("cannot find {}", folder.display()), error)),
    };
    let mut result = Ok(());
    for entry in mounts_below(&folder)? {
        let below = entry.mount_point.strip_prefix(&folder).ok().and_then(|rest| rest.iter().next());
        if below.is_some_and(is_ours) {
            result = unmount_recursive(&entry.mount_point, UnmountFlags::DETACH).and(result);
        }
    }
    let listing = std::fs::read_dir(&folder)
        .map_err(|error| Error::io(format!("cannot list {}", folder.display()), error))?;
    for entry in listing {
        let entry = entry.map_err(|error| Error::io(format!("cannot list {}", folder.display()), error))?;
        if is_ours(&entry.file_name()) {
            result = remove_folder(&entry.path()).and(result);
        }
    }
    result
}

/// The mounts without options that promise to forget what was written.
#[must_use]
pub fn without_volatile(mounts: &[Mount]) -> Vec<Mount> {
    let mut mounts = mounts.to_vec();
    for mount in mounts.iter_mut().filter(|mount| mount.kind == "overlay") {
        mount.options.retain(|option| option != "volatile" && option != "fsync=volatile");
    }
    mounts
}

/// The mounts, made read-only: an overlay loses its upper and work folder, everything else gets `ro`.
#[must_use]
pub fn read_only_mounts(mounts: &[Mount]) -> Vec<Mount> {
    let mut mounts = mounts.to_vec();
    for mount in &mut mounts {
        if mount.kind == "overlay" {
            read_only_overlay(&mut mount.options);
        } else {
            mount.options.retain(|option| option != "rw" && option != "ro");
            mount.options.push("ro".to_owned());
        }
    }
    mounts
}

fn read_only_overlay(options: &mut Vec<String>) {
    let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned);
    options.retain(|option| !option.starts_with("upperdir=") && !option.starts_with("workdir="));
    let Some(upper) = upper else { return };
    // In upperdir a colon is an ordinary character, in lowerdir it separates.
    let upper = upper.replace(':', "\\:");
    for option in options {
        if let Some(lower) = option.strip_prefix("lowerdir=") {
            *option = format!("lowerdir={upper}:{lower}");
        }
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

fn new_folder(folder: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let cannot =
        |error| Error::io(format!("cannot make a temporary mount point in {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let folder = folder.canonicalize().map_err(cannot)?;
    for _ in 0..NAME_ATTEMPTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{PREFIX}{}-{number}", std::process::id()));
        match rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU) {
            Ok(()) => return Ok(path),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(cannot(error.into())),
        }
    }
    Err(Error::resource_exhausted(format!("{} is full of temporary mount points", folder.display())))
}

/// Removes the folder if it is empty: if a mount is still there, its files stay.
fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format!("cannot remove the mount point {}", path.display()), error)),
    }
}
