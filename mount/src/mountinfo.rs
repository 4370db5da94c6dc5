//! What is mounted: mountinfo, read.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountEntry {
    /// The id of the mount.
    pub id: u64,
    /// The id of the mount it stands on.
    pub parent_id: u64,
    /// The folder of the filesystem that is mounted.
    pub root: PathBuf,
    /// Where it is mounted: an absolute path in this process's view.
    pub mount_point: PathBuf,
    /// Options of the mount, joined with commas.
    pub options: String,
    /// The filesystem's type.
    pub kind: String,
    /// What is mounted, as the filesystem tells it.
    pub source: PathBuf,
    /// Options of the filesystem, joined with commas.
    pub super_options: String,
}

/// The mounts of the calling thread: it may have a mount namespace of its own.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Every mount that this thread sees, in the kernel's order.
///
/// # Errors
/// The class of what went wrong when reading mountinfo. Nothing changed.
pub fn own_mounts() -> Result<Vec<MountEntry>> {
    let text =
        std::fs::read(MOUNTINFO).map_err(|error| Error::io(format!("cannot read {MOUNTINFO}"), error))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(entry).collect())
}

/// The mounts at `folder` (absolute, without links) and below it.
///
/// # Errors
/// As [`own_mounts`].
pub fn mounts_below(folder: &Path) -> Result<Vec<MountEntry>> {
    let mut mounts = own_mounts()?;
    mounts.retain(|entry| entry.mount_point.starts_with(folder));
    Ok(mounts)
}

/// Reads one line; `None` for what is not one.
fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut words = line.split(|byte| *byte == b' ');
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    let id = number(words.next()?)?;
    let parent_id = number(words.next()?)?;
    let _device = words.next()?;
    let root = path(words.next()?);
    let mount_point = path(words.next()?);
    let options = text(words.next()?);
    // Optional fields, then a lone dash.
    words.by_ref().find(|word| *word == b"-")?;
    let kind = text(words.next()?);
    let source = path(words.next()?);
    let super_options = text(words.next().unwrap_or_default());
    Some(MountEntry { id, parent_id, root, mount_point, options, kind, source, super_options })
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(&unescaped(word)).into_owned()
}

fn path(word: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescaped(word)))
}

/// The kernel writes blanks, tabs, line ends and backslashes as `\` and three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits {
            Some(digits) if byte == b'\\' => {
                plain.push(digits.iter().fold(0_u8, |value, digit| (value << 3) | (digit - b'0')));
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

/// How deep a path is: deeper mounts go first.
pub(crate) fn length_bytes(path: &Path) -> usize {
    path.as_os_str().as_bytes().len()
}

#[cfg(test)]
mod tests;
