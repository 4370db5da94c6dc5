//! Copying a tree with everything that an image may hold: owners, modes, times, attributes, links, devices, holes.

mod content;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// The most that the kernel gives of one attribute, and of the list of their names.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// Copies what is in `source`, and the attributes of `source` itself, into the existing, empty folder `target`.
///
/// Links are never followed. Attributes that the target does not take are left out (row O20).
///
/// # Errors
/// Those of the disk, with the path. A part may have been copied.
pub(crate) fn copy_tree(source: &Path, target: &Path) -> Result<()> {
    let mut copy = Copy { linked: HashMap::new(), buffer: vec![0; ATTRIBUTE_BYTES] };
    let top = source.symlink_metadata().map_err(|error| told(source, error))?;
    // Folders get their times after what is in them was made.
    let mut folders = vec![(source.to_owned(), target.to_owned(), top)];
    let mut waiting = vec![(source.to_owned(), target.to_owned())];
    while let Some((from, to)) = waiting.pop() {
        for entry in std::fs::read_dir(&from).map_err(|error| told(&from, error))? {
            let entry = entry.map_err(|error| told(&from, error))?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let found = entry.metadata().map_err(|error| told(&from, error))?;
            if found.is_dir() {
                rustix::fs::mkdir(&to, Mode::RWXU).map_err(|error| told(&from, error.into()))?;
                waiting.push((from.clone(), to.clone()));
                folders.push((from, to, found));
            } else {
                copy.file(&from, &to, &found).map_err(|error| told(&from, error))?;
            }
        }
    }
    for (from, to, found) in folders.into_iter().rev() {
        copy.attributes(&from, &to, &found).map_err(|error| told(&from, error))?;
    }
    Ok(())
}

struct Copy {
    /// Where files with several names were copied to, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

impl Copy {
    /// Copies anything but a folder.
    fn file(&mut self, from: &Path, to: &Path, found: &Metadata) -> std::io::Result<()> {
        if found.nlink() > 1 {
            if let Some(first) = self.linked.get(&(found.dev(), found.ino())) {
                return std::fs::hard_link(first, to);
            }
            self.linked.insert((found.dev(), found.ino()), to.to_owned());
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

    /// Owner, mode, attributes and times, in the order in which none takes another back.
    fn attributes(&mut self, from: &Path, to: &Path, found: &Metadata) -> std::io::Result<()> {
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

fn told(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot copy {}", path.display()), error)
}

#[cfg(test)]
mod tests;
