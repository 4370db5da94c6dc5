//! What a folder takes on the disk.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corten_types::{Error, Result};

use crate::Usage;

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
    let top = folder.symlink_metadata().map_err(cannot)?;
    let mut survey = Survey {
        usage: Usage { size_bytes: top.blocks() * BLOCK_BYTES, inodes: 1 },
        entries: 0,
        file_bytes: 0,
        changed: (top.ctime(), top.ctime_nsec()),
    };
    let mut linked = HashSet::new();
    let mut waiting = vec![folder.to_owned()];
    let mut told_at = 0;
    while let Some(folder) = waiting.pop() {
        let listing = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(cannot)?,
        };
        for entry in listing {
            let entry = entry.map_err(cannot)?;
            let found = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(cannot)?,
            };
            survey.entries += 1;
            if found.is_dir() {
                waiting.push(entry.path());
            } else if found.nlink() > 1 {
                let file = (found.dev(), found.ino());
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
                    return Ok(survey);
                }
            }
        }
    }
    Ok(survey)
}

impl Survey {
    fn count(&mut self, found: &Metadata) {
        self.usage.size_bytes += found.blocks() * BLOCK_BYTES;
        self.usage.inodes += 1;
        if found.is_file() {
            self.file_bytes = self.file_bytes.saturating_add(found.len());
        }
        self.changed = self.changed.max((found.ctime(), found.ctime_nsec()));
    }
}
