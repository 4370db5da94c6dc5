//! What a folder takes on the disk.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corten_types::{Error, Result};

use crate::Usage;

/// The unit of `st_blocks`, whatever the filesystem's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// Counts the blocks and inodes of `folder` (with itself) and all that is in it; a hard-linked file counts once
/// (rows S10 and O11). What vanishes meanwhile does not count.
///
/// # Errors
/// Those of reading; `NotFound` if `folder` itself is not there.
pub fn disk_usage(folder: &Path) -> Result<Usage> {
    let cannot = |error: io::Error| Error::io(format!("cannot measure {}", folder.display()), error);
    let top = folder.symlink_metadata().map_err(cannot)?;
    let mut usage = Usage { size_bytes: top.blocks() * BLOCK_BYTES, inodes: 1 };
    let mut linked = HashSet::new();
    let mut waiting = vec![folder.to_owned()];
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
            if found.is_dir() {
                waiting.push(entry.path());
            } else if found.nlink() > 1 && !linked.insert((found.dev(), found.ino())) {
                continue;
            }
            usage.size_bytes += found.blocks() * BLOCK_BYTES;
            usage.inodes += 1;
        }
    }
    Ok(usage)
}
