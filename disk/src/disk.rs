//! The disk: the operations on names, and the opening of files.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    file::{DiskFile, pass},
    filesystem::{FilesystemSync, Groups},
    remove::remove_tree,
    seam::{FileId, Operation, Seam},
};

/// The few operations that durable state is made of. Cheap to clone; clones share their seam.
///
/// Errors are those of the system, without the path: the caller knows what it was doing and says so.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    seam: Option<Arc<dyn Seam>>,
    groups: Groups,
}

impl Disk {
    /// The disk of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk of this machine, with every durable operation passing `seam`.
    #[must_use]
    pub fn with_seam(seam: Arc<dyn Seam>) -> Self {
        Self { seam: Some(seam), groups: Groups::default() }
    }

    /// The seam, if there is one.
    #[must_use]
    pub fn seam(&self) -> Option<&Arc<dyn Seam>> {
        self.seam.as_ref()
    }

    /// Creates the file `path` for reading and writing with the permission bits `mode` (less the umask).
    ///
    /// # Errors
    /// `AlreadyExists`: there is something at `path`; it is untouched. Otherwise those of the system.
    pub fn create_new(&self, path: &Path, mode: u32) -> io::Result<DiskFile> {
        let id = FileId::next();
        let operation = Operation::Create { file: id, path, mode };
        let file = pass(self.seam.as_ref(), &operation, || {
            OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
        })?;
        Ok(DiskFile::new(file, id, path.to_owned(), self.seam.clone(), 0))
    }

    /// Opens the existing file `path` for reading and writing; [`DiskFile::append`] goes on at its end.
    ///
    /// # Errors
    /// `NotFound`: there is no such file. Otherwise those of the system.
    pub fn open_append(&self, path: &Path) -> io::Result<DiskFile> {
        let id = FileId::next();
        let (file, length) = pass(self.seam.as_ref(), &Operation::Open { file: id, path }, || {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        })?;
        Ok(DiskFile::new(file, id, path.to_owned(), self.seam.clone(), length))
    }

    /// Moves `from` to `to` in one step, replacing a file that is there.
    ///
    /// It is on stable storage after [`Disk::sync_folder`] of both parents.
    ///
    /// # Errors
    /// Those of the system; nothing moved.
    #[expect(clippy::disallowed_methods, reason = "this is the one place for it")]
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::Rename { from, to }, || fs::rename(from, to))
    }

    /// Gives the file `from` the second name `to`.
    ///
    /// # Errors
    /// `AlreadyExists`: there is something at `to`. Otherwise those of the system; nothing changed.
    pub fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::HardLink { from, to }, || fs::hard_link(from, to))
    }

    /// Removes the name `path` of a file.
    ///
    /// # Errors
    /// `NotFound`: there is none. Otherwise those of the system; it is still there.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::RemoveFile { path }, || fs::remove_file(path))
    }

    /// Removes the folder `path` and everything in it, without following links, however deep it is.
    ///
    /// # Errors
    /// `NotFound`: there is none. Otherwise those of the system; a part may be gone.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::RemoveTree { path }, || remove_tree(path))
    }

    /// Creates the folder `path` with the permission bits `mode` (less the umask). Its parent must exist.
    ///
    /// # Errors
    /// `AlreadyExists`: there is something at `path`. Otherwise those of the system.
    pub fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::CreateFolder { path, mode }, || {
            DirBuilder::new().mode(mode).create(path)
        })
    }

    /// Creates the folder `path` and the parents it lacks, and syncs every folder that got a new name.
    ///
    /// A folder that is there is left as it is.
    ///
    /// # Errors
    /// Those of the system; some of the parents may have been made.
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = parent_of(path);
        self.create_dir_all(&parent, mode)?;
        match self.create_dir(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            result => result?,
        }
        self.sync_folder(&parent)
    }

    /// Waits until the names in the folder `path` are on stable storage: what was created, renamed, removed there.
    ///
    /// # Errors
    /// Those of the system; what reached the disk is then unknown.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        pass(self.seam.as_ref(), &Operation::SyncFolder { path }, || File::open(path)?.sync_all())
    }

    /// Puts `data` at `path` so that after any crash it holds the old bytes or the new ones, and on return the new ones.
    ///
    /// The bytes go to `path` with `.new` appended first; what a crash left there is replaced.
    ///
    /// # Errors
    /// Those of the system; `path` holds the old bytes, or the new ones if only the last sync failed.
    pub fn replace_file(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        let mut draft_name = path.as_os_str().to_owned();
        draft_name.push(".new");
        let draft_path = PathBuf::from(draft_name);
        if draft_path.symlink_metadata().is_ok() {
            self.remove_file(&draft_path)?;
        }
        let mut draft = self.create_new(&draft_path, mode)?;
        draft.append(data)?;
        draft.sync_all()?;
        self.rename(&draft_path, path)?;
        self.sync_folder(&parent_of(path))
    }

    /// Watches the filesystem of `folder` from now on, so that [`FilesystemSync::sync`] reports every failed write-back
    /// since. Call it before the first write.
    ///
    /// # Errors
    /// Those of opening `folder`.
    pub fn filesystem_sync(&self, folder: &Path) -> io::Result<FilesystemSync> {
        FilesystemSync::open(folder, &self.groups, self.seam.clone())
    }
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
