//! What a folder takes on the disk.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use corten_types::{Error, Result};

use rustix::fs::{FileType, Stat};

use crate::Usage;
use crate::manifest::walk::{Walk, is_folder};

/// The unit of `st_blocks`, whatever the filesystem's own blocks are.
const BLOCK_BYTES: u64 = 512;

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
pub(crate) fn survey_with(
    folder: &Path,
    mut so_far: impl FnMut(&Usage) -> ControlFlow<()>,
) -> Result<Survey> {
    let cannot = |error: io::Error| Error::io(format!("cannot measure {}", folder.display()), error);
    let mut walk = Walk::open(folder).map_err(cannot)?;
    let mut survey = Survey { usage: Usage::default(), entries: 0, file_bytes: 0, changed: (i64::MIN, 0) };
    survey.count(&walk.root().map_err(cannot)?);
    let mut linked = HashSet::new();
    let mut told_at = 0;
    while let Some(found) = walk.advance().map_err(cannot)? {
        survey.entries += 1;
        if is_folder(&found) {
            match walk.enter() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                entered => entered.map_err(cannot)?,
            }
        } else if found.st_nlink > 1 {
            let file = (found.st_dev, found.st_ino);
            if linked.contains(&file) {
                continue;
            }
            if linked.len() < LINKED_LIMIT {
                linked.insert(file);
            }
        }
        survey.count(&found);
        if survey.entries - told_at >= TELLING_ENTRIES {
            told_at = survey.entries;
            if so_far(&survey.usage).is_break() {
                break;
            }
        }
    }
    Ok(survey)
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
