//! The folders of snapshots: `<root>/snapshots/<id>` (row O01).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use corten_disk::{Disk, FilesystemSync};
use corten_types::{Error, Result};

/// What a folder is called while it is being made (row DM66).
const DRAFT_PREFIX: &str = "new-";

/// What a folder is called while it is being removed (row O20).
const REMOVAL_PREFIX: &str = "rm-";

/// The folders of the snapshots of one root. It knows nothing of what is in them.
#[derive(Debug)]
pub struct Trees {
    root: PathBuf,
    snapshots: PathBuf,
    disk: Disk,
    next_draft: AtomicU64,
}

/// What is in the folder of folders.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Folders of snapshots.
    pub(crate) ids: BTreeSet<u64>,
    /// Half made or half removed ones.
    pub(crate) unfinished: Vec<PathBuf>,
}

impl Trees {
    /// Makes `root` (absolute) and its folder of snapshots if they are not there.
    pub(crate) fn open(root: &Path, disk: Disk) -> Result<Self> {
        let snapshots = root.join("snapshots");
        disk.create_dir_all(&snapshots, 0o700)
            .map_err(|error| Error::io(format!("cannot create {}", snapshots.display()), error))?;
        Ok(Self { root: root.to_owned(), snapshots, disk, next_draft: AtomicU64::new(0) })
    }

    /// The root, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of snapshot `id`, absolute, whether it exists or not.
    #[must_use]
    pub fn folder(&self, id: u64) -> PathBuf {
        self.snapshots.join(id.to_string())
    }

    /// A place for the manifest of snapshot `id` that is not in its folder: `<root>/manifests/<id>`.
    #[must_use]
    pub fn manifest(&self, id: u64) -> PathBuf {
        self.manifests().join(id.to_string())
    }

    fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// The number in a path that is the folder of a snapshot, or leads into it.
    pub(crate) fn id_of(&self, path: &Path) -> Option<u64> {
        let name = path.strip_prefix(&self.snapshots).ok()?.iter().next()?.to_str()?;
        name.parse().ok().filter(|id: &u64| id.to_string() == name)
    }

    /// Removes the manifests outside of folders whose snapshots `is_known` does not know.
    pub(crate) fn sweep_manifests(&self, is_known: impl Fn(u64) -> bool) -> Result<()> {
        let folder = self.manifests();
        let cannot = |error| Error::io(format!("cannot list {}", folder.display()), error);
        let listing = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listing => listing.map_err(cannot)?,
        };
        for entry in listing {
            let name = entry.map_err(cannot)?.file_name();
            let known = name.to_str().and_then(|name| name.parse().ok()).is_some_and(&is_known);
            if !known {
                self.remove_file(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes a file. None is fine.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        self.disk
            .remove_file(path)
            .map_err(|error| Error::io(format!("cannot remove {}", path.display()), error))
    }

    /// The disk that folders are made on.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Makes the folder of `id` in one step: `fill` gets a new folder under another name, which is renamed when it is
    /// done.
    ///
    /// # Errors
    /// Those of `fill` and of the disk. Nothing is left, or an unfinished folder that the next open removes.
    pub fn create(&self, id: u64, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let draft = self.new_draft()?;
        let target = self.folder(id);
        let made = fill(&draft).and_then(|()| {
            self.disk
                .rename(&draft, &target)
                .map_err(|error| Error::io(format!("cannot rename the folder of snapshot {id}"), error))
        });
        if made.is_err() {
            // What stays is found at the next open; the first error is the one worth telling.
            let _ = self.disk.remove_dir_all(&draft);
        }
        made
    }

    /// Makes a folder with exactly the permission bits `mode`, whatever the umask.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create_folder(&self, path: &Path, mode: u32) -> Result<()> {
        self.disk
            .create_dir(path, mode)
            .map_err(|error| Error::io(format!("cannot create {}", path.display()), error))?;
        self.set_mode(path, mode)
    }

    /// Sets the permission bits of a folder that is being made.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(|error| Error::io(format!("cannot set the mode of {}", path.display()), error))
    }

    /// Removes the folder of `id`; it is out of sight at once. None is fine.
    ///
    /// # Errors
    /// Those of the disk; a part may be gone, and another try goes on.
    pub(crate) fn discard(&self, id: u64) -> Result<()> {
        let doomed = self.snapshots.join(format!("{REMOVAL_PREFIX}{id}"));
        match self.disk.rename(&self.folder(id), &doomed) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format!("cannot put the folder of snapshot {id} away"), error));
            }
        }
        self.remove(&doomed)
    }

    /// Removes an unfinished folder. None is fine.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        match self.disk.remove_dir_all(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(format!("cannot remove {}", path.display()), error)),
        }
    }

    /// Watches the filesystem for failed write-backs from now on.
    pub(crate) fn watch(&self) -> Result<FilesystemSync> {
        self.disk
            .filesystem_sync(&self.snapshots)
            .map_err(|error| Error::io(format!("cannot open {}", self.snapshots.display()), error))
    }

    /// What is there. Names of other kinds belong to somebody else.
    pub(crate) fn listing(&self) -> Result<Listing> {
        let cannot = |error| Error::io(format!("cannot list {}", self.snapshots.display()), error);
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(&self.snapshots).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(DRAFT_PREFIX) || name.starts_with(REMOVAL_PREFIX) {
                listing.unfinished.push(entry.path());
            } else if let Ok(id) = name.parse::<u64>()
                && id.to_string() == name
            {
                listing.ids.insert(id);
            }
        }
        Ok(listing)
    }

    fn new_draft(&self) -> Result<PathBuf> {
        loop {
            let number = self.next_draft.fetch_add(1, Ordering::Relaxed);
            let path = self.snapshots.join(format!("{DRAFT_PREFIX}{number:04}"));
            match self.disk.create_dir(&path, 0o700) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(format!("cannot create {}", path.display()), error)),
            }
        }
    }
}
