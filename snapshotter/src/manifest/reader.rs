//! Reading a manifest, entry by entry.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};

use super::record::{take, take_entry, take_number, to_path, to_sorted};
use super::writer::{HEADER, TRAILER_BYTES};
use super::{Entry, PATH_LIMIT_BYTES, Seal};

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// The longest record: a path, a hard link's target, and numbers.
const RECORD_LIMIT_BYTES: usize = 2 * PATH_LIMIT_BYTES + 64;

/// A manifest that is whole.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    input: io::Take<BufReader<File>>,
    seal: Seal,
    entries_left: u64,
    buffer: Vec<u8>,
    consumed: usize,
    /// The path of the current entry, with zero bytes for slashes.
    sorted: Vec<u8>,
    /// The same, as it is told.
    shown: Vec<u8>,
    /// Where in the buffer the current entry is.
    body: Range<usize>,
}

impl Reader {
    /// Opens the manifest at `path` and reads it once, to be sure that it is whole.
    ///
    /// # Errors
    /// `NotFound`: there is none. `DataLoss`: it is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |error| Error::io(format!("cannot read the manifest {}", path.display()), error);
        let mut file = File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let seal = check(&mut file, length).map_err(cannot)?.ok_or_else(|| damaged(path))?;
        file.seek(SeekFrom::Start(HEADER.len() as u64)).map_err(cannot)?;
        let records = length - (HEADER.len() + TRAILER_BYTES) as u64;
        Ok(Self {
            path: path.to_owned(),
            input: BufReader::with_capacity(READ_BYTES, file).take(records),
            seal,
            entries_left: seal.entries,
            buffer: Vec::new(),
            consumed: 0,
            sorted: Vec::new(),
            shown: Vec::new(),
            body: 0..0,
        })
    }

    /// What it counts.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// The next path, from the root of the tree, and what is there: a folder, then what is in it, then its next
    /// neighbour.
    ///
    /// # Errors
    /// `DataLoss`: what is written makes no sense.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], Entry<'_>)>> {
        if !self.advance()? {
            return Ok(None);
        }
        self.shown.clear();
        self.shown.extend_from_slice(&self.sorted);
        to_path(&mut self.shown);
        Ok(Some((&self.shown, self.entry()?)))
    }

    /// Goes to the next entry; `false` after the last one.
    pub(super) fn advance(&mut self) -> Result<bool> {
        if self.entries_left == 0 {
            return Ok(false);
        }
        self.entries_left -= 1;
        let record = loop {
            if let Some(record) = parse(&self.buffer[self.consumed..]) {
                break record;
            }
            self.fill()?;
        };
        let suffix = &self.buffer[self.consumed..][record.suffix.clone()];
        if record.shared > self.sorted.len() || record.shared + suffix.len() > PATH_LIMIT_BYTES {
            return Err(damaged(&self.path));
        }
        self.sorted.truncate(record.shared);
        self.sorted.extend_from_slice(suffix);
        to_sorted(&mut self.sorted[record.shared..]);
        self.body = self.consumed + record.body.start..self.consumed + record.body.end;
        self.consumed = self.body.end;
        Ok(true)
    }

    /// The path of the current entry, with zero bytes for slashes.
    pub(super) fn sorted_path(&self) -> &[u8] {
        &self.sorted
    }

    /// The current entry.
    pub(super) fn entry(&self) -> Result<Entry<'_>> {
        take_entry(&mut &self.buffer[self.body.clone()]).ok_or_else(|| damaged(&self.path))
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        if self.buffer.len() > RECORD_LIMIT_BYTES {
            return Err(damaged(&self.path));
        }
        let mut part = (&mut self.input).take(READ_BYTES as u64);
        let read = part
            .read_to_end(&mut self.buffer)
            .map_err(|error| Error::io(format!("cannot read the manifest {}", self.path.display()), error))?;
        if read == 0 { Err(damaged(&self.path)) } else { Ok(()) }
    }
}

struct Record {
    shared: usize,
    suffix: Range<usize>,
    body: Range<usize>,
}

/// The record at the front of `bytes`, if all of it is there.
fn parse(bytes: &[u8]) -> Option<Record> {
    let mut rest = bytes;
    let shared = usize::try_from(take_number(&mut rest)?).ok()?;
    let length = usize::try_from(take_number(&mut rest)?).ok()?;
    take(&mut rest, length)?;
    let middle = bytes.len() - rest.len();
    take_entry(&mut rest)?;
    Some(Record { shared, suffix: middle - length..middle, body: middle..bytes.len() - rest.len() })
}

/// The seal, if it fits what is before it.
fn check(file: &mut File, length: u64) -> io::Result<Option<Seal>> {
    let checked = match length.checked_sub(4) {
        Some(checked) if length >= (HEADER.len() + TRAILER_BYTES) as u64 => checked,
        _ => return Ok(None),
    };
    let mut input = file.take(checked);
    let mut buffer = vec![0; READ_BYTES];
    let (mut sum, mut is_first) = (0, true);
    // The numbers before the checksum, also where they lie across two reads.
    let mut last = Vec::with_capacity(2 * TRAILER_BYTES);
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let bytes = &buffer[..read];
        if is_first && !bytes.starts_with(HEADER) {
            return Ok(None);
        }
        is_first = false;
        sum = super::checksum(sum, bytes);
        last.extend_from_slice(&bytes[read.saturating_sub(TRAILER_BYTES - 4)..]);
        last.drain(..last.len().saturating_sub(TRAILER_BYTES - 4));
    }
    let mut stored = [0; 4];
    file.read_exact(&mut stored)?;
    let [entries, file_bytes] = [0, 8]
        .map(|at| last.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes));
    let seal = Seal { entries, file_bytes, checksum: sum };
    Ok((u32::from_le_bytes(stored) == sum).then_some(seal))
}

fn damaged(path: &Path) -> Error {
    Error::data_loss(format!("the manifest {} is damaged", path.display()))
}
