//! Making a manifest while a layer is unpacked.

use std::io;
use std::path::{Path, PathBuf};

use corten_disk::{Disk, DiskFile};
use corten_types::{Error, ErrorKind, Result};

use super::record::{REMOVAL, is_below, is_folder, is_plain, put_entry, put_number, take_entry, to_path};
use super::sort::{RUN_BYTES, Record, Sorter, discard};
use super::{Entry, Seal};

/// How a manifest begins.
pub(super) const HEADER: &[u8] = b"corten tree manifest 1\n";

/// The numbers at the end: entries, bytes of files, checksum.
pub(super) const TRAILER_BYTES: usize = 8 + 8 + 4;

/// How much is written at once.
const WRITE_BYTES: usize = 128 << 10;

/// Takes what a layer puts into an empty tree, in the order in which that happens, and makes a manifest of it.
///
/// Memory does not grow with the number of entries. Dropping it unsealed leaves nothing.
#[derive(Debug)]
pub struct Writer {
    disk: Disk,
    path: PathBuf,
    draft_path: PathBuf,
    sorter: Sorter,
    has_hard_links: bool,
    /// Why there will be no manifest.
    failure: Option<Error>,
}

impl Writer {
    /// A manifest that will be at `path` (absolute), whose folder exists. What is there is replaced by
    /// [`Writer::seal`].
    ///
    /// # Errors
    /// Those of removing what an earlier try left.
    pub fn create(disk: &Disk, path: &Path) -> Result<Self> {
        Self::create_with(disk, path, RUN_BYTES)
    }

    pub(super) fn create_with(disk: &Disk, path: &Path, run_bytes: usize) -> Result<Self> {
        let draft_path = with_suffix(path, ".new");
        let scratch_path = with_suffix(path, ".runs");
        for left_over in [&draft_path, &scratch_path] {
            discard(disk, left_over)
                .map_err(|error| Error::io(format!("cannot remove {}", left_over.display()), error))?;
        }
        let sorter = Sorter::new(disk, scratch_path, run_bytes);
        Ok(Self {
            disk: disk.clone(),
            path: path.to_owned(),
            draft_path,
            sorter,
            has_hard_links: false,
            failure: None,
        })
    }

    /// Something was put at `path` (from the root of the tree, parts joined by single slashes). It replaces what was put
    /// there before; unless it is a folder, it also replaces what was put below.
    ///
    /// Every folder has to be put, also those that were made because a path led through them. It never fails: what
    /// goes wrong is told by [`Writer::seal`].
    pub fn put(&mut self, path: &[u8], entry: Entry<'_>) {
        self.has_hard_links |= matches!(entry, Entry::HardLink { .. });
        if let Entry::HardLink { target } = entry
            && !is_plain(target)
        {
            self.fail(odd(target));
        }
        self.add(path, |body| put_entry(body, entry));
    }

    /// What was put at `path`, and below it, was removed again without anything in its place.
    pub fn remove(&mut self, path: &[u8]) {
        self.add(path, |body| body.push(REMOVAL));
    }

    /// Writes the manifest. It is on stable storage with the next sync of its filesystem.
    ///
    /// # Errors
    /// There is no manifest then. `Unimplemented`: this tree cannot have one: a path is too long, or a file with
    /// several names was replaced within the layer. Others: the disk.
    pub fn seal(mut self) -> Result<Seal> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let renamed = |seal| self.disk.rename(&self.draft_path, &self.path).map(|()| seal);
        match write(&self.disk, &self.draft_path, self.sorter, self.has_hard_links).and_then(renamed) {
            Ok(seal) => Ok(seal),
            Err(error) => {
                // What stays is replaced by the next try, and goes with the snapshot.
                let _ = discard(&self.disk, &self.draft_path);
                Err(match error.downcast::<Error>() {
                    Ok(refusal) => refusal,
                    Err(error) => told(&self.path, error),
                })
            }
        }
    }

    fn add(&mut self, path: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        if self.failure.is_some() {
            return;
        }
        if !is_plain(path) {
            return self.fail(odd(path));
        }
        if let Err(error) = self.sorter.add(path, write) {
            self.fail(told(&self.path, error));
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

fn write(disk: &Disk, path: &Path, sorter: Sorter, has_hard_links: bool) -> io::Result<Seal> {
    let mut output = Output::create(disk, path)?;
    let mut merge = Merge { has_hard_links, ..Merge::default() };
    sorter.merge(|record| merge.add(record, &mut output))?;
    merge.finish(&mut output)?;
    output.finish()
}

/// Turns all that happened to paths into what is there in the end.
#[derive(Default)]
struct Merge {
    has_hard_links: bool,
    /// The last that was told of the current path.
    latest: Option<Record>,
    /// When the current path was last something else than a folder.
    emptied: Option<u64>,
    /// Paths above the current one that were once no folders, and when that was: what came below before is gone.
    barriers: Vec<(Vec<u8>, u64)>,
}

impl Merge {
    fn add(&mut self, record: &Record, output: &mut Output) -> io::Result<()> {
        if self.latest.as_ref().is_some_and(|latest| latest.path != record.path) {
            self.settle(output)?;
        }
        if let Some(replaced) = self.latest.take() {
            self.forget(&replaced)?;
        }
        if !is_folder(&record.body) {
            self.emptied = Some(record.number);
        }
        self.latest = Some(record.clone());
        Ok(())
    }

    fn finish(mut self, output: &mut Output) -> io::Result<()> {
        self.settle(output)
    }

    /// Nothing more comes for the current path.
    fn settle(&mut self, output: &mut Output) -> io::Result<()> {
        let Some(latest) = self.latest.take() else { return Ok(()) };
        let emptied = self.emptied.take();
        self.barriers.retain(|(folder, _)| is_below(&latest.path, folder));
        let is_gone = self.barriers.iter().any(|(_, number)| *number > latest.number);
        if is_gone {
            self.forget(&latest)?;
        } else if latest.body.first() != Some(&REMOVAL) {
            output.add(&latest.path, &latest.body)?;
        }
        if let Some(number) = emptied {
            self.barriers.push((latest.path, number));
        }
        Ok(())
    }

    /// A file that was replaced may live on under another name, and which of its names are the same file is not known
    /// any more.
    fn forget(&self, record: &Record) -> io::Result<()> {
        let kind = record.body.first();
        if !self.has_hard_links || is_folder(&record.body) || kind == Some(&REMOVAL) {
            return Ok(());
        }
        let mut path = record.path.clone();
        to_path(&mut path);
        Err(io::Error::other(Error::unimplemented(format!(
            "no manifest: {:?} was replaced within a layer that has hard links",
            String::from_utf8_lossy(&path)
        ))))
    }
}

/// The file that becomes the manifest.
struct Output {
    file: DiskFile,
    buffer: Vec<u8>,
    last_path: Vec<u8>,
    seal: Seal,
}

impl Output {
    fn create(disk: &Disk, path: &Path) -> io::Result<Self> {
        let file = disk.create_new(path, 0o600)?;
        let seal = Seal { entries: 0, file_bytes: 0, checksum: 0 };
        let mut buffer = Vec::with_capacity(WRITE_BYTES + super::PATH_LIMIT_BYTES);
        buffer.extend_from_slice(HEADER);
        Ok(Self { file, buffer, last_path: Vec::new(), seal })
    }

    fn add(&mut self, path: &[u8], body: &[u8]) -> io::Result<()> {
        let shared = path.iter().zip(&self.last_path).take_while(|(left, right)| left == right).count();
        put_number(&mut self.buffer, shared as u64);
        put_number(&mut self.buffer, (path.len() - shared) as u64);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&path[shared..]);
        to_path(&mut self.buffer[start..]);
        self.buffer.extend_from_slice(body);
        self.last_path.truncate(shared);
        self.last_path.extend_from_slice(&path[shared..]);
        self.seal.entries += 1;
        if let Some(Entry::File { size_bytes, .. }) = take_entry(&mut &*body) {
            self.seal.file_bytes = self.seal.file_bytes.saturating_add(size_bytes);
        }
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(mut self) -> io::Result<Seal> {
        self.buffer.extend_from_slice(&self.seal.entries.to_le_bytes());
        self.buffer.extend_from_slice(&self.seal.file_bytes.to_le_bytes());
        self.flush()?;
        self.file.append(&self.seal.checksum.to_le_bytes())?;
        Ok(self.seal)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.seal.checksum = super::checksum(self.seal.checksum, &self.buffer);
        self.file.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn told(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot write the manifest {}", path.display()), error)
}

fn odd(path: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(&path[..path.len().min(100)]).into_owned();
    Error::new(ErrorKind::Unimplemented, format!("a manifest cannot hold the path {shown:?}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
