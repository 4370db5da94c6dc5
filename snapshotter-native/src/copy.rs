//! Copying a tree with everything that an image may hold: owners, modes, times, attributes, links, devices, holes.

mod content;

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

/// The most that the kernel gives of one attribute, and of the list of their names.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// A path is opened in pieces of so many bytes: the kernel takes 4096.
const PIECE_BYTES: usize = 3 << 10;

/// Copies what is in `source`, and the attributes of `source` itself, into the existing, empty folder `target`.
///
/// Links are never followed; two folders are open at a time, however deep the tree is. Attributes that the target does
/// not take are left out (row O20).
///
/// # Errors
/// Those of the disk, with the path. A part may have been copied.
pub(crate) fn copy_tree(source: &Path, target: &Path) -> Result<()> {
    let open =
        |path: &Path| rustix::fs::open(path, FOLDER, Mode::empty()).map_err(|error| told(path, error.into()));
    let target_root = open(target)?;
    let mut copy = Copy {
        from: open(source)?,
        to: rustix::io::fcntl_dupfd_cloexec(&target_root, 0).map_err(|error| told(target, error.into()))?,
        target_root,
        path: PathBuf::new(),
        levels: Vec::new(),
        linked: HashMap::new(),
        buffer: vec![0; ATTRIBUTE_BYTES],
    };
    copy.run().map_err(|error| told(&source.join(&copy.path), error))
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Copy {
    /// The folder that is copied now, and what it is copied to.
    from: OwnedFd,
    to: OwnedFd,
    target_root: OwnedFd,
    /// Where that is, and then what is copied now, from the root of the tree.
    path: PathBuf,
    /// The folder that is copied now and those above it.
    levels: Vec<Level>,
    /// Where files with several names were copied to, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

/// One folder in the middle of being copied.
struct Level {
    names: Vec<OsString>,
    found: Metadata,
}

impl Copy {
    fn run(&mut self) -> io::Result<()> {
        self.levels.push(Level::of(&self.from)?);
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.pop() else {
                self.leave()?;
                continue;
            };
            self.path.push(&name);
            let (from, to) = (inside(&self.from, &name), inside(&self.to, &name));
            let found = from.symlink_metadata()?;
            if found.is_dir() {
                rustix::fs::mkdirat(&self.to, &name, Mode::RWXU)?;
                self.from = rustix::fs::openat(&self.from, &name, FOLDER, Mode::empty())?;
                self.to = rustix::fs::openat(&self.to, &name, FOLDER, Mode::empty())?;
                self.levels.push(Level::of(&self.from)?);
            } else {
                self.file(&from, &to, &found)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Everything in the folder is copied: only now its times stay what they are.
    fn leave(&mut self) -> io::Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let here = OsString::from(".");
        let (from, to) = (inside(&self.from, &here), inside(&self.to, &here));
        self.attributes(&from, &to, &level.found)?;
        self.path.pop();
        let Some(above) = self.levels.last() else { return Ok(()) };
        let (from, to) = (open_above(&self.from)?, open_above(&self.to)?);
        let opened = rustix::fs::fstat(&from)?;
        if (opened.st_dev, opened.st_ino) != (above.found.dev(), above.found.ino()) {
            return Err(io::Error::other("the folder was moved while it was copied"));
        }
        (self.from, self.to) = (from, to);
        Ok(())
    }

    /// Copies anything but a folder.
    fn file(&mut self, from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
        if found.nlink() > 1 {
            if let Some(first) = self.linked.get(&(found.dev(), found.ino())) {
                return self.link(first, to);
            }
            self.linked.insert((found.dev(), found.ino()), self.path.clone());
        }
        let kind = found.file_type();
        if kind.is_file() {
            content::copy(from, to, found.len())?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(from)?, to)?;
        } else {
            let kind = match kind {
                kind if kind.is_fifo() => FileType::Fifo,
                kind if kind.is_char_device() => FileType::CharacterDevice,
                kind if kind.is_block_device() => FileType::BlockDevice,
                _ => FileType::Socket,
            };
            rustix::fs::mknodat(CWD, to, kind, Mode::RUSR, found.rdev())?;
        }
        self.attributes(from, to, found)
    }

    /// Gives the copy at `first`, a path from the root of the target, another name.
    fn link(&self, first: &Path, to: &Path) -> io::Result<()> {
        let folder = descend(&self.target_root, first.parent().unwrap_or(Path::new("")))?;
        let name = first.file_name().unwrap_or_default();
        std::fs::hard_link(inside(&folder, &name.to_owned()), to)
    }

    /// Owner, mode, attributes and times, in the order in which none takes another back.
    fn attributes(&mut self, from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
        std::os::unix::fs::lchown(to, Some(found.uid()), Some(found.gid()))?;
        if !found.file_type().is_symlink() {
            rustix::fs::chmod(to, Mode::from_raw_mode(found.mode()))?;
        }
        self.extended(from, to);
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(found.atime(), found.atime_nsec()),
            last_modification: time(found.mtime(), found.mtime_nsec()),
        };
        rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Extended attributes. Some cannot be read or set, for example where a security module owns them.
    fn extended(&mut self, from: &Path, to: &Path) {
        let Ok(length) = rustix::fs::llistxattr(from, self.buffer.as_mut_slice()) else { return };
        let names: Vec<CString> = self.buffer[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .filter_map(|name| CString::new(name).ok())
            .collect();
        for name in names {
            if let Ok(length) = rustix::fs::lgetxattr(from, &name, self.buffer.as_mut_slice()) {
                let _ = rustix::fs::lsetxattr(to, &name, &self.buffer[..length], XattrFlags::empty());
            }
        }
    }
}

impl Level {
    fn of(folder: &OwnedFd) -> io::Result<Self> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let names = std::fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name()));
        Ok(Self { names: names.collect::<io::Result<_>>()?, found: path.metadata()? })
    }
}

/// A short path to `name` in an open folder; links in that place are not followed by what does not follow links.
fn inside(folder: &OwnedFd, name: &OsString) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

/// Opens the folder `path` below `root`, however long the path is.
fn descend(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut here = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let mut piece = PathBuf::new();
    for part in path {
        piece.push(part);
        if piece.as_os_str().as_bytes().len() >= PIECE_BYTES {
            here = rustix::fs::openat(&here, &piece, FOLDER, Mode::empty())?;
            piece.clear();
        }
    }
    if !piece.as_os_str().is_empty() {
        here = rustix::fs::openat(&here, &piece, FOLDER, Mode::empty())?;
    }
    Ok(here)
}

fn open_above(folder: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, "..", FOLDER, Mode::empty())?)
}

fn told(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot copy {}", path.display()), error)
}

#[cfg(test)]
mod tests;
