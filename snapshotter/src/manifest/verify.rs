//! Comparing a tree with its manifest.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Stat};

use super::record::{is_below, to_path};
use super::walk::{Walk, is_folder};
use super::{Entry, Reader};

/// How much of a file is read at once.
const READ_BYTES: usize = 256 << 10;

/// Something that is not as the manifest says. Paths are from the root of the tree.
#[derive(Debug)]
pub enum Finding {
    /// It is gone. What was below a folder that is gone is not told again.
    Missing(PathBuf),
    /// It is there, and not what it was.
    Changed(PathBuf, Change),
    /// Nobody put it there. What is below a folder that nobody put there is not told again.
    Extra(PathBuf),
    /// It cannot be looked at; what is below it is not looked at either.
    Unreadable(PathBuf, io::Error),
}

impl Finding {
    /// What it is about, from the root of the tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing(path) | Self::Changed(path, _) | Self::Extra(path) | Self::Unreadable(path, _) => {
                path
            }
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path().display();
        match self {
            Self::Missing(_) => write!(formatter, "{path} is missing"),
            Self::Changed(_, change) => write!(formatter, "{path} {change}"),
            Self::Extra(_) => write!(formatter, "{path} is not from the layer"),
            Self::Unreadable(_, error) => write!(formatter, "{path} cannot be read: {error}"),
        }
    }
}

/// How something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is something else: a folder for a file, another device.
    Kind,
    /// The file has another length.
    Size {
        /// What it was.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The file has other bytes.
    Content,
    /// The symbolic link points elsewhere.
    Target,
    /// It is not the same file any more as the one that it was linked to.
    Link,
}

impl std::fmt::Display for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind => formatter.write_str("is something else than it was"),
            Self::Size { expected, found } => write!(formatter, "has {found} bytes instead of {expected}"),
            Self::Content => formatter.write_str("has other bytes than it had"),
            Self::Target => formatter.write_str("points elsewhere than it did"),
            Self::Link => formatter.write_str("is not the file that it was linked to"),
        }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The entries of the manifest that were looked for.
    pub entries: u64,
    /// The bytes of files that were read.
    pub read_bytes: u64,
    /// Whether the end was reached: the sink did not stop it.
    pub is_complete: bool,
}

/// Compares `tree` with `manifest` (both absolute) and tells `sink` what differs, in the order of paths, until it
/// breaks off.
///
/// Memory depends on the largest folder, not on the tree. Every file is read. Nothing is followed, nothing is changed.
///
/// # Errors
/// `NotFound`: no manifest, or no tree. `DataLoss`: the manifest is damaged. Others: the disk.
pub fn verify(
    manifest: &Path,
    tree: &Path,
    sink: &mut dyn FnMut(Finding) -> ControlFlow<()>,
) -> Result<Verified> {
    let reader = Reader::open(manifest)?;
    let cannot = |error| Error::io(format!("cannot look through {}", tree.display()), error);
    let walk = Walk::open(tree).map_err(cannot)?;
    let mut comparison = Comparison {
        reader,
        walk,
        tree,
        sink,
        buffer: vec![0; READ_BYTES],
        missing_folder: None,
        verified: Verified::default(),
    };
    match comparison.run()? {
        ControlFlow::Continue(()) => comparison.verified.is_complete = true,
        ControlFlow::Break(()) => {}
    }
    Ok(comparison.verified)
}

struct Comparison<'a> {
    reader: Reader,
    walk: Walk,
    tree: &'a Path,
    sink: &'a mut dyn FnMut(Finding) -> ControlFlow<()>,
    buffer: Vec<u8>,
    /// What is below has been told of.
    missing_folder: Option<Vec<u8>>,
    verified: Verified,
}

impl Comparison<'_> {
    fn run(&mut self) -> Result<ControlFlow<()>> {
        let mut expected = self.next_expected()?;
        loop {
            let found = self.walk.advance();
            let Some(found) = found.map_err(|error| self.cannot(error))? else { break };
            // Everything before it is gone.
            while expected && self.reader.sorted_path() < self.walk.path() {
                if self.missing().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                expected = self.next_expected()?;
            }
            let is_expected = expected && self.reader.sorted_path() == self.walk.path();
            // A folder that was not put but leads to what was.
            let leads_on = expected && is_below(self.reader.sorted_path(), self.walk.path());
            let outcome = if is_expected {
                self.compare(&found)?
            } else if leads_on && is_folder(&found) {
                ControlFlow::Continue(())
            } else {
                self.tell(Finding::Extra)
            };
            if outcome.is_break() {
                return Ok(outcome);
            }
            let is_folder_expected = is_expected && self.reader.entry()? == Entry::Folder;
            if is_folder_expected && !is_folder(&found) {
                self.missing_folder = Some(self.walk.path().to_vec());
            }
            if is_folder(&found)
                && (is_folder_expected || leads_on)
                && let Err(error) = self.walk.enter()
            {
                if self.tell(|path| Finding::Unreadable(path, error)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.missing_folder = Some(self.walk.path().to_vec());
            }
            if is_expected {
                expected = self.next_expected()?;
            }
        }
        while expected {
            if self.missing().is_break() {
                return Ok(ControlFlow::Break(()));
            }
            expected = self.next_expected()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_expected(&mut self) -> Result<bool> {
        let is_there = self.reader.advance()?;
        self.verified.entries += u64::from(is_there);
        Ok(is_there)
    }

    /// What the manifest has now is not there.
    fn missing(&mut self) -> ControlFlow<()> {
        let path = self.reader.sorted_path();
        if self.missing_folder.as_ref().is_some_and(|folder| is_below(path, folder)) {
            return ControlFlow::Continue(());
        }
        self.missing_folder = Some(path.to_vec());
        (self.sink)(Finding::Missing(shown(path)))
    }

    /// The same path in both.
    fn compare(&mut self, found: &Stat) -> Result<ControlFlow<()>> {
        let kind = FileType::from_raw_mode(found.st_mode);
        let size = u64::try_from(found.st_size).unwrap_or(0);
        let entry = self.reader.entry()?;
        let change = match (entry, kind) {
            (Entry::Folder, FileType::Directory)
            | (Entry::Fifo, FileType::Fifo)
            | (Entry::Socket, FileType::Socket) => Ok(None),
            (Entry::File { size_bytes, .. }, FileType::RegularFile) if size_bytes != size => {
                Ok(Some(Change::Size { expected: size_bytes, found: size }))
            }
            (Entry::File { checksum, .. }, FileType::RegularFile) => {
                sum_of_file(&self.walk, &mut self.buffer, &mut self.verified.read_bytes)
                    .map(|sum| (sum != checksum).then_some(Change::Content))
            }
            (Entry::Symlink { length_bytes, checksum }, FileType::Symlink) => {
                self.walk.link_target().map(|target| {
                    let is_same =
                        target.len() as u64 == length_bytes && super::checksum(0, &target) == checksum;
                    (!is_same).then_some(Change::Target)
                })
            }
            (Entry::CharacterDevice { device }, FileType::CharacterDevice)
            | (Entry::BlockDevice { device }, FileType::BlockDevice) => {
                Ok((device != found.st_rdev).then_some(Change::Kind))
            }
            (Entry::HardLink { .. }, FileType::Directory) => Ok(Some(Change::Kind)),
            (Entry::HardLink { target }, _) => {
                let first = self.tree.join(PathBuf::from(OsString::from_vec(target.to_vec())));
                let first = rustix::fs::statat(CWD, &first, AtFlags::SYMLINK_NOFOLLOW);
                let is_same =
                    first.is_ok_and(|first| (first.st_dev, first.st_ino) == (found.st_dev, found.st_ino));
                Ok((!is_same).then_some(Change::Link))
            }
            _ => Ok(Some(Change::Kind)),
        };
        Ok(match change {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(change)) => self.tell(|path| Finding::Changed(path, change)),
            Err(error) => self.tell(|path| Finding::Unreadable(path, error)),
        })
    }

    fn tell(&mut self, finding: impl FnOnce(PathBuf) -> Finding) -> ControlFlow<()> {
        (self.sink)(finding(shown(self.walk.path())))
    }

    fn cannot(&self, error: io::Error) -> Error {
        let path = self.tree.join(shown(self.walk.path()));
        Error::io(format!("cannot look at {}", path.display()), error)
    }
}

/// The checksum of the file that the walk is at.
fn sum_of_file(walk: &Walk, buffer: &mut [u8], read_bytes: &mut u64) -> io::Result<u32> {
    let mut file = File::from(walk.open_file()?);
    let mut sum = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(sum),
            Ok(length) => {
                sum = super::checksum(sum, &buffer[..length]);
                *read_bytes += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn shown(sorted: &[u8]) -> PathBuf {
    let mut path = sorted.to_vec();
    to_path(&mut path);
    OsString::from_vec(path).into()
}
