//! What a folder takes on the disk.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;

use corten_types::{Error, Result};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use crate::Usage;
use crate::manifest::walk::{FOLDER, identity, is_folder};

/// The unit of `st_blocks`, whatever the filesystem's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// How much of a folder is listed at once.
const LISTING_BYTES: usize = 64 << 10;

/// After how many entries it is told what was counted so far.
const TELLING_ENTRIES: u64 = 4096;

/// How many files with several names are remembered, to count each once. More of them count by name.
const LINKED_LIMIT: usize = 1 << 20;

/// What one look at every file of a folder tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey {
    /// What it takes.
    pub(crate) usage: Usage,
    /// The number of names in it, without itself.
    pub(crate) entries: u64,
    /// The lengths of all files, each file once.
    pub(crate) file_bytes: u64,
    /// When anything in it was changed last, by whatever means: seconds and nanoseconds since 1970.
    pub(crate) changed: (i64, i64),
}

/// Counts the blocks and inodes of `folder` (with itself) and all that is in it; a hard-linked file counts once
/// (rows S10 and O11). What vanishes meanwhile does not count.
///
/// # Errors
/// Those of reading; `NotFound` if `folder` itself is not there.
pub fn disk_usage(folder: &Path) -> Result<Usage> {
    survey(folder).map(|survey| survey.usage)
}

/// Looks at every file of `folder` once.
pub(crate) fn survey(folder: &Path) -> Result<Survey> {
    survey_with(folder, |_| ControlFlow::Continue(()))
}

/// The same, telling now and then what was counted so far; it stops, with less than there is, where that is not wanted
/// any more.
pub(crate) fn survey_with(folder: &Path, so_far: impl FnMut(&Usage) -> ControlFlow<()>) -> Result<Survey> {
    let mut surveyor = Surveyor {
        survey: Survey { usage: Usage::default(), entries: 0, file_bytes: 0, changed: (i64::MIN, 0) },
        linked: HashSet::new(),
        told_at: 0,
        so_far,
    };
    let outcome = surveyor.look_at_all(folder);
    outcome.map_err(|error| Error::io(format!("cannot measure {}", folder.display()), error))?;
    Ok(surveyor.survey)
}

/// Looks at a tree in the order in which the filesystem lists it, with one open folder and without following anything.
struct Surveyor<F> {
    survey: Survey,
    linked: HashSet<(u64, u64)>,
    told_at: u64,
    so_far: F,
}

/// A folder on the way to the one that is looked at.
struct Level {
    /// The names of folders in it that were not looked at yet, each with a zero byte after it.
    folders: Vec<u8>,
    identity: (u64, u64),
}

impl<F: FnMut(&Usage) -> ControlFlow<()>> Surveyor<F> {
    fn look_at_all(&mut self, root: &Path) -> io::Result<()> {
        // The root itself may be reached through links.
        let mut folder = rustix::fs::open(root, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())?;
        self.survey.count(&rustix::fs::fstat(&folder)?);
        let mut listing = vec![MaybeUninit::uninit(); LISTING_BYTES];
        let mut levels = vec![Level { folders: Vec::new(), identity: identity(&folder)? }];
        let mut name = Vec::new();
        let mut is_new = true;
        while let Some(level) = levels.last_mut() {
            if is_new && self.look_at(&folder, &mut listing, &mut level.folders)?.is_break() {
                return Ok(());
            }
            is_new = level.take_folder(&mut name);
            if is_new {
                match rustix::fs::openat(&folder, name.as_slice(), FOLDER, Mode::empty()) {
                    // It vanished.
                    Err(Errno::NOENT) => is_new = false,
                    opened => {
                        folder = opened?;
                        levels.push(Level { folders: Vec::new(), identity: identity(&folder)? });
                    }
                }
                continue;
            }
            levels.pop();
            let Some(above) = levels.last() else { break };
            folder = rustix::fs::openat(&folder, "..", FOLDER, Mode::empty())?;
            if identity(&folder)? != above.identity {
                return Err(io::Error::other("a folder was moved while it was looked at"));
            }
        }
        Ok(())
    }

    /// Counts what is in one folder, and notes the folders among it.
    fn look_at(
        &mut self,
        folder: &OwnedFd,
        listing: &mut [MaybeUninit<u8>],
        folders: &mut Vec<u8>,
    ) -> io::Result<ControlFlow<()>> {
        let mut entries = RawDir::new(folder, listing);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
                Ok(found) => {
                    if is_folder(&found) {
                        folders.extend_from_slice(name.to_bytes_with_nul());
                    }
                    self.add(&found);
                }
            }
            if self.survey.entries - self.told_at >= TELLING_ENTRIES {
                self.told_at = self.survey.entries;
                if (self.so_far)(&self.survey.usage).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn add(&mut self, found: &Stat) {
        self.survey.entries += 1;
        if !is_folder(found) && found.st_nlink > 1 {
            let file = (found.st_dev, found.st_ino);
            if self.linked.contains(&file) {
                return;
            }
            if self.linked.len() < LINKED_LIMIT {
                self.linked.insert(file);
            }
        }
        self.survey.count(found);
    }
}

impl Level {
    /// Moves the last of the folders to `name`. Says whether there was one.
    fn take_folder(&mut self, name: &mut Vec<u8>) -> bool {
        let Some(end) = self.folders.len().checked_sub(1) else { return false };
        let start = self.folders[..end].iter().rposition(|byte| *byte == 0).map_or(0, |zero| zero + 1);
        name.clear();
        name.extend_from_slice(&self.folders[start..end]);
        self.folders.truncate(start);
        true
    }
}

impl Survey {
    fn count(&mut self, found: &Stat) {
        self.usage.size_bytes += u64::try_from(found.st_blocks).unwrap_or(0) * BLOCK_BYTES;
        self.usage.inodes += 1;
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            let length = u64::try_from(found.st_size).unwrap_or(0);
            self.file_bytes = self.file_bytes.saturating_add(length);
        }
        let nanoseconds = i64::try_from(found.st_ctime_nsec).unwrap_or(i64::MAX);
        self.changed = self.changed.max((found.st_ctime, nanoseconds));
    }
}
