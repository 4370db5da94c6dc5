//! gzip on several threads, whose number changes nothing of what comes out.
//!
//! The blocks of the input are compressed one by one, each with the end of the one before as its dictionary, and each ends at
//! a whole byte. Put together they are one member, as a single thread would write it but for a few bytes a block.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use flate2::{Compress, Compression, Crc, FlushCompress};

/// How far back deflate can refer.
const DICTIONARY_BYTES: usize = 32 * 1024;

/// A member without a name and a time (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A last block with nothing in it (RFC 1951).
const LAST_BLOCK: [u8; 2] = [3, 0];

/// How many threads there are at most, and how many blocks may be under way for each.
const MAX_THREADS: usize = 4;
const BLOCKS_A_THREAD: usize = 2;

/// Compresses blocks, and writes them to `sink` in their order.
pub(crate) struct GzipWriter<W> {
    sink: W,
    pool: Pool,
    under_way: VecDeque<Receiver<io::Result<Packed>>>,
    /// The last block that was taken.
    before: Arc<Vec<u8>>,
    checksum: Crc,
}

struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    block: Arc<Vec<u8>>,
    before: Arc<Vec<u8>>,
    answer: SyncSender<io::Result<Packed>>,
}

struct Packed {
    bytes: Vec<u8>,
    checksum: Crc,
}

impl<W: Write> GzipWriter<W> {
    /// With as many threads as there are processors, within limits.
    pub(crate) fn new(sink: W) -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(sink, processors.min(MAX_THREADS))
    }

    fn with_threads(mut sink: W, count: usize) -> io::Result<Self> {
        sink.write_all(&HEADER)?;
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = (0..count).map(|_| {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name("layer-gzip".into()).spawn(move || work(&waiting))
        });
        Ok(Self {
            sink,
            pool: Pool { jobs: Some(jobs), threads: threads.collect::<io::Result<_>>()? },
            under_way: VecDeque::new(),
            before: Arc::default(),
            checksum: Crc::new(),
        })
    }

    /// Takes the next block. The bytes that come out depend on where blocks begin.
    pub(crate) fn write_block(&mut self, block: Vec<u8>) -> io::Result<()> {
        let block = Arc::new(block);
        let before = std::mem::replace(&mut self.before, Arc::clone(&block));
        let (answer, packed) = sync_channel(1);
        let jobs = self.pool.jobs.as_ref().expect("it is only taken when the pool ends");
        jobs.send(Job { block, before, answer }).map_err(|_| ended())?;
        self.under_way.push_back(packed);
        while self.under_way.len() > self.pool.threads.len() * BLOCKS_A_THREAD {
            self.put_next()?;
        }
        Ok(())
    }

    /// Writes what is left, and the member's end.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        while !self.under_way.is_empty() {
            self.put_next()?;
        }
        self.sink.write_all(&LAST_BLOCK)?;
        self.sink.write_all(&self.checksum.sum().to_le_bytes())?;
        self.sink.write_all(&self.checksum.amount().to_le_bytes())?;
        Ok(self.sink)
    }

    fn put_next(&mut self) -> io::Result<()> {
        let Some(next) = self.under_way.pop_front() else { return Ok(()) };
        let packed = next.recv().map_err(|_| ended())??;
        self.checksum.combine(&packed.checksum);
        self.sink.write_all(&packed.bytes)
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

fn ended() -> io::Error {
    io::Error::other("a thread that compresses a layer panicked")
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, before, answer }) = job else { return };
        let packed = deflate(&before, &block).map(|bytes| {
            let mut checksum = Crc::new();
            checksum.update(&block);
            Packed { bytes, checksum }
        });
        // After an error nobody waits for it.
        let _ = answer.send(packed);
    }
}

fn deflate(before: &[u8], block: &[u8]) -> io::Result<Vec<u8>> {
    // A new one: what comes out of one that is used again depends on what went through it before.
    let mut deflater = Compress::new(Compression::default(), false);
    let dictionary = &before[before.len().saturating_sub(DICTIONARY_BYTES)..];
    if !dictionary.is_empty() {
        deflater.set_dictionary(dictionary).map_err(io::Error::from)?;
    }
    let mut packed = Vec::with_capacity(block.len() / 2 + 1024);
    let mut taken = 0;
    loop {
        let before = deflater.total_in();
        deflater.compress_vec(&block[taken..], &mut packed, FlushCompress::Sync).map_err(io::Error::from)?;
        taken += usize::try_from(deflater.total_in() - before).expect("it is within the block");
        // It is flushed when there was room left.
        if taken == block.len() && packed.len() < packed.capacity() {
            return Ok(packed);
        }
        packed.reserve(block.len() / 4 + 1024);
    }
}

#[cfg(test)]
mod tests;
