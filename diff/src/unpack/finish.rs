//! Filling small files on other threads, while the next ones are made.
//!
//! Names are only ever made and removed by the thread that reads the archive, in the archive's order. What is left to do
//! for a small file, its bytes and attributes, goes by its descriptor, and so may be done later. [`Finishers::drain`]
//! waits for it where the order matters again.

use std::{
    fs::File,
    io::Write,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rustix::fs::FileType;

use super::{
    UnpackError,
    attributes::{Done, Setter, Target, set_times},
    error::shown,
    sink::{Checksum, Placed, Told},
};
use crate::archive::Entry;

/// Larger files are filled by the thread that reads them.
pub(crate) const SMALL_BYTES: u64 = 32 * 1024;

/// How many files, and how many bytes, go to another thread at once: waking it costs about as much as a file.
const BATCH_FILES: usize = 8;
const BATCH_BYTES: usize = 64 * 1024;

/// How many batches wait.
const BATCHES: usize = 4;

/// How many threads there are at most: more only wait for the filesystem's locks.
const MAX_THREADS: usize = 3;

/// What a layer takes without them: a thread reads and decompresses, one hashes, one parses and makes names.
const OTHER_THREADS: usize = 3;

/// How many emptied buffers are kept.
const SPARE_BUFFERS: usize = 64;

/// A file that exists, and what it is to be.
pub(crate) struct FileJob {
    pub(crate) file: File,
    pub(crate) entry: Entry,
    pub(crate) path: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// What it is already.
    pub(crate) done: Done,
}

struct Finished {
    path: Vec<u8>,
    data: Vec<u8>,
    crc32c: u32,
    skipped_xattrs: u64,
}

/// How many processors one layer does not use already.
pub(crate) fn idle_processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from).saturating_sub(OTHER_THREADS)
}

type Batch = Vec<Result<Finished, UnpackError>>;

/// The threads, and what was handed to them.
pub(crate) struct Finishers {
    setter: Setter,
    wants_checksums: bool,
    batch: Vec<FileJob>,
    batch_bytes: usize,
    pool: Option<Pool>,
    /// How many threads are to be started when there is enough to do.
    wanted_threads: usize,
    spare: Vec<Vec<u8>>,
    /// Extended attributes that were left out.
    pub(crate) skipped_xattrs: u64,
}

struct Pool {
    jobs: Option<SyncSender<Vec<FileJob>>>,
    finished: Receiver<Batch>,
    batches_out: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Finishers {
    pub(crate) fn new(setter: Setter, wants_checksums: bool, threads: usize) -> Self {
        Self {
            setter,
            wants_checksums,
            batch: Vec::new(),
            batch_bytes: 0,
            pool: None,
            wanted_threads: threads.min(MAX_THREADS),
            spare: Vec::new(),
            skipped_xattrs: 0,
        }
    }

    /// Whether there are threads for it. Without them small files are filled like large ones.
    pub(crate) fn has_threads(&self) -> bool {
        self.pool.is_some() || self.wanted_threads > 0
    }

    /// An empty buffer for a file's bytes.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Finishes a file, now or later. The error may be that of another file.
    pub(crate) fn submit(&mut self, job: FileJob, told: &mut Told<'_>) -> Result<(), UnpackError> {
        let xattrs: usize = job.entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.batch_bytes += job.data.len() + xattrs;
        self.batch.push(job);
        if self.batch.len() < BATCH_FILES && self.batch_bytes < BATCH_BYTES {
            return Ok(());
        }
        self.flush(told)?;
        while let Some(batch) = self.pool.as_mut().and_then(Pool::try_next) {
            self.take(batch, told)?;
        }
        Ok(())
    }

    /// Waits until every file is finished.
    pub(crate) fn drain(&mut self, told: &mut Told<'_>) -> Result<(), UnpackError> {
        // Few files are not worth waking somebody.
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.finish_here(batch, told)?;
        while let Some(batch) = self.pool.as_mut().map_or(Ok(None), Pool::next)? {
            self.take(batch, told)?;
        }
        Ok(())
    }

    fn flush(&mut self, told: &mut Told<'_>) -> Result<(), UnpackError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let wanted = std::mem::take(&mut self.wanted_threads);
        if wanted > 0 {
            self.pool = Pool::start(wanted, self.setter, self.wants_checksums);
        }
        match &mut self.pool {
            Some(pool) => pool.send(batch),
            None => self.finish_here(batch, told),
        }
    }

    fn finish_here(&mut self, batch: Vec<FileJob>, told: &mut Told<'_>) -> Result<(), UnpackError> {
        for job in batch {
            let finished = finish(job, self.setter, self.wants_checksums);
            self.take(vec![finished], told)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: Batch, told: &mut Told<'_>) -> Result<(), UnpackError> {
        for finished in batch {
            let Finished { path, mut data, crc32c, skipped_xattrs } = finished?;
            self.skipped_xattrs += skipped_xattrs;
            told.put(&path, Placed::File { size_bytes: data.len() as u64, crc32c });
            if self.spare.len() < SPARE_BUFFERS {
                data.clear();
                self.spare.push(data);
            }
        }
        Ok(())
    }
}

impl Pool {
    /// Starts the threads. Nothing if that is not possible.
    fn start(count: usize, setter: Setter, wants_checksums: bool) -> Option<Self> {
        let (jobs, received) = sync_channel(BATCHES);
        let (sender, finished) = channel();
        let received = Arc::new(Mutex::new(received));
        let mut threads = Vec::new();
        for _ in 0..count {
            let (received, sender) = (Arc::clone(&received), sender.clone());
            let work = move || work(&received, &sender, setter, wants_checksums);
            threads.extend(thread::Builder::new().name("layer-files".into()).spawn(work).ok());
        }
        (!threads.is_empty()).then(|| Self { jobs: Some(jobs), finished, batches_out: 0, threads })
    }

    fn send(&mut self, batch: Vec<FileJob>) -> Result<(), UnpackError> {
        let jobs = self.jobs.as_ref().expect("it is only taken when the pool ends");
        jobs.send(batch).map_err(|_| ended())?;
        self.batches_out += 1;
        Ok(())
    }

    fn try_next(&mut self) -> Option<Batch> {
        let batch = self.finished.try_recv().ok()?;
        self.batches_out -= 1;
        Some(batch)
    }

    fn next(&mut self) -> Result<Option<Batch>, UnpackError> {
        if self.batches_out == 0 {
            return Ok(None);
        }
        let batch = self.finished.recv().map_err(|_| ended())?;
        self.batches_out -= 1;
        Ok(Some(batch))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ended() -> UnpackError {
    let source = std::io::Error::other("a thread that fills files panicked");
    UnpackError::System { doing: "fill files of", path: "/".into(), source }
}

fn work(jobs: &Mutex<Receiver<Vec<FileJob>>>, sender: &Sender<Batch>, setter: Setter, wants_checksums: bool) {
    loop {
        let batch = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        let finished = batch.into_iter().map(|job| finish(job, setter, wants_checksums)).collect();
        // Nobody is there to take it after an error.
        let _ = sender.send(finished);
    }
}

fn finish(job: FileJob, setter: Setter, wants_checksum: bool) -> Result<Finished, UnpackError> {
    let FileJob { mut file, entry, path, data, done } = job;
    let mut checksum = Checksum::default();
    if wants_checksum {
        checksum.add(&data);
    }
    if !data.is_empty() {
        file.write_all(&data).map_err(|source| UnpackError::System {
            doing: "write",
            path: shown(&path),
            source,
        })?;
    }
    let target = Target::Open(file.as_fd(), FileType::RegularFile);
    let skipped_xattrs = setter.set_attributes(&entry, &path, target, done)?;
    set_times(&entry, &path, target)?;
    Ok(Finished { path, data, crc32c: checksum.value(), skipped_xattrs })
}
