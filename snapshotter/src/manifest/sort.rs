//! Sorting any number of records in a bounded amount of memory: sorted runs in a file, and a merge of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use corten_disk::{Disk, DiskFile};

use super::record::{put_number, take_number, to_sorted};

/// How many bytes of records are sorted in memory at once.
pub(super) const RUN_BYTES: usize = 2 << 20;

/// How much memory all runs together are read through.
const MERGE_BYTES: usize = 2 << 20;

/// The least that a run is read through.
const SMALLEST_READ_BYTES: usize = 4 << 10;

/// One record on its way: where it is sorted to, when it came, what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// With zero bytes for slashes.
    pub(super) path: Vec<u8>,
    pub(super) number: u64,
    pub(super) body: Vec<u8>,
}

/// Takes records in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    disk: Disk,
    scratch_path: PathBuf,
    scratch: Option<DiskFile>,
    /// Where in the scratch file runs begin and end.
    runs: Vec<(u64, u64)>,
    waiting: Vec<Waiting>,
    /// Paths and bodies of what waits.
    bytes: Vec<u8>,
    next_number: u64,
    run_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    start: u32,
    path_length: u32,
    body_length: u32,
    number: u64,
}

impl Waiting {
    fn path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..][..self.path_length as usize]
    }

    fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize + self.path_length as usize..][..self.body_length as usize]
    }
}

impl Sorter {
    /// Runs go to the file `scratch_path`, if more than one is needed.
    pub(super) fn new(disk: &Disk, scratch_path: PathBuf, run_bytes: usize) -> Self {
        Self {
            disk: disk.clone(),
            scratch_path,
            scratch: None,
            runs: Vec::new(),
            waiting: Vec::new(),
            bytes: Vec::new(),
            next_number: 0,
            run_bytes,
        }
    }

    /// Takes a record; `write` appends its body.
    pub(super) fn add(&mut self, path: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(path);
        to_sorted(&mut self.bytes[start..]);
        write(&mut self.bytes);
        let small = |length: usize| u32::try_from(length).expect("a run and a path are far below 4 GiB");
        self.waiting.push(Waiting {
            start: small(start),
            path_length: small(path.len()),
            body_length: small(self.bytes.len() - start - path.len()),
            number: self.next_number,
        });
        self.next_number += 1;
        if self.bytes.len() + size_of_val(self.waiting.as_slice()) >= self.run_bytes {
            self.spill()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.waiting.sort_unstable_by(|left, right| {
            left.path(bytes).cmp(right.path(bytes)).then(left.number.cmp(&right.number))
        });
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut out = Vec::with_capacity(self.bytes.len() + self.waiting.len() * 6);
        for waiting in &self.waiting {
            put_number(&mut out, u64::from(waiting.path_length));
            put_number(&mut out, waiting.number);
            put_number(&mut out, u64::from(waiting.body_length));
            out.extend_from_slice(waiting.path(&self.bytes));
            out.extend_from_slice(waiting.body(&self.bytes));
        }
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            none => {
                discard(&self.disk, &self.scratch_path)?;
                none.insert(self.disk.create_new(&self.scratch_path, 0o600)?)
            }
        };
        let start = scratch.length_bytes();
        scratch.append(&out)?;
        self.runs.push((start, scratch.length_bytes()));
        self.waiting.clear();
        self.bytes.clear();
        Ok(())
    }

    /// Gives every record to `take`, by path and, for the same path, in the order in which they came.
    pub(super) fn merge(mut self, mut take: impl FnMut(&Record) -> io::Result<()>) -> io::Result<()> {
        if self.runs.is_empty() {
            self.sort();
            let mut record = Record::default();
            for waiting in &self.waiting {
                record.path.clear();
                record.path.extend_from_slice(waiting.path(&self.bytes));
                record.body.clear();
                record.body.extend_from_slice(waiting.body(&self.bytes));
                record.number = waiting.number;
                take(&record)?;
            }
            return Ok(());
        }
        if !self.waiting.is_empty() {
            self.spill()?;
        }
        (self.waiting, self.bytes) = (Vec::new(), Vec::new());
        let Some(scratch) = &self.scratch else { return Ok(()) };
        let read_bytes = (MERGE_BYTES / self.runs.len()).max(SMALLEST_READ_BYTES);
        let mut runs: Vec<Run<'_>> = Vec::with_capacity(self.runs.len());
        // The order of the first two fields is that of the merge.
        let mut heads = BinaryHeap::new();
        for (index, (start, end)) in self.runs.iter().enumerate() {
            let mut run = Run::new(scratch.reader(), *start, *end, read_bytes);
            if let Some(record) = run.next()? {
                heads.push(Reverse((record.path, record.number, record.body, index)));
            }
            runs.push(run);
        }
        while let Some(Reverse((path, number, body, index))) = heads.pop() {
            let record = Record { path, number, body };
            take(&record)?;
            if let Some(Record { path, number, body }) = runs[index].next()? {
                heads.push(Reverse((path, number, body, index)));
            }
        }
        Ok(())
    }
}

impl Drop for Sorter {
    fn drop(&mut self) {
        if self.scratch.take().is_some() {
            // It is debris that the next recording, or the removal of the snapshot, takes along.
            let _ = self.disk.remove_file(&self.scratch_path);
        }
    }
}

/// Removes a file that may not be there.
pub(super) fn discard(disk: &Disk, path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    disk.remove_file(path)
}

/// One run, read piece by piece.
struct Run<'a> {
    file: &'a File,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    consumed: usize,
    read_bytes: usize,
}

impl<'a> Run<'a> {
    fn new(file: &'a File, position: u64, end: u64, read_bytes: usize) -> Self {
        Self { file, position, end, buffer: Vec::new(), consumed: 0, read_bytes }
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            let mut rest = &self.buffer[self.consumed..];
            if let Some(record) = take_record(&mut rest) {
                self.consumed = self.buffer.len() - rest.len();
                return Ok(Some(record));
            }
            if self.position == self.end {
                let whole = self.consumed == self.buffer.len();
                return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let old = self.buffer.len();
        self.buffer.resize(old + self.read_bytes.min(left), 0);
        self.file.read_exact_at(&mut self.buffer[old..], self.position)?;
        self.position += (self.buffer.len() - old) as u64;
        Ok(())
    }
}

fn take_record(rest: &mut &[u8]) -> Option<Record> {
    let mut bytes = *rest;
    let path_length = usize::try_from(take_number(&mut bytes)?).ok()?;
    let number = take_number(&mut bytes)?;
    let body_length = usize::try_from(take_number(&mut bytes)?).ok()?;
    let path = super::record::take(&mut bytes, path_length)?.to_vec();
    let body = super::record::take(&mut bytes, body_length)?.to_vec();
    *rest = bytes;
    Some(Record { path, number, body })
}
