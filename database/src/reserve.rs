//! A file that holds room for deletions on a full disk.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
};

/// The reserve file. Its steps are best effort: without it a full disk refuses deletions too, and nothing else.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    length: u64,
}

impl Reserve {
    pub(crate) fn new(path: PathBuf, length: u64) -> Self {
        Self { path, length }
    }

    /// Makes the reserve if it is not there and the disk has room for it twice.
    pub(crate) fn make(&self) {
        if self.length == 0 || self.path.metadata().is_ok_and(|metadata| metadata.len() >= self.length) {
            return;
        }
        let folder = self.path.parent().unwrap_or_else(|| "/".as_ref());
        let roomy = corten_disk::space(folder).is_ok_and(|space| space.free_bytes / 2 >= self.length);
        if !roomy {
            return;
        }
        let Ok(file) = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path) else {
            return;
        };
        if !allocate(&file, self.length) {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Whether there should be one and is none.
    pub(crate) fn is_missing(&self) -> bool {
        self.length > 0 && !self.path.exists()
    }

    pub(crate) fn exists(&self) -> bool {
        self.length > 0 && self.path.exists()
    }

    /// Gives the room back; says whether there was any.
    pub(crate) fn give_up(&self) -> bool {
        self.length > 0 && fs::remove_file(&self.path).is_ok()
    }
}

fn allocate(file: &fs::File, length: u64) -> bool {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length).is_ok()
}
