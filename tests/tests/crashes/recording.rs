//! A disk in memory that remembers every write and every flush, and what it would hold if the power had gone between any two.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use corten_tests::Storage;
use rand::{Rng, rngs::StdRng};

const BLOCK_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// What the superblock of ext4's journal begins with (`jbd2_journal_superblock_s`: magic number and type).
const JOURNAL_SUPERBLOCK: [u8; 8] = [0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4];

/// The blocks that are not zero. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Blocks(HashMap<u64, Arc<[u8; BLOCK_BYTES]>>);

impl Blocks {
    fn read(&self, offset_bytes: u64, bytes: &mut [u8]) {
        each_block(offset_bytes, bytes.len(), |block, within, range| match self.0.get(&block) {
            Some(found) => bytes[range.clone()].copy_from_slice(&found[within..within + range.len()]),
            None => bytes[range].fill(0),
        });
    }

    fn write(&mut self, offset_bytes: u64, bytes: &[u8]) {
        each_block(offset_bytes, bytes.len(), |block, within, range| {
            let length = range.len();
            let found = self.0.entry(block).or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            Arc::make_mut(found)[within..within + length].copy_from_slice(&bytes[range]);
        });
    }
}

/// Calls with the number of each block, where the range begins within it, and which bytes of the range lie there.
fn each_block(offset_bytes: u64, length: usize, mut call: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < length {
        let at = offset_bytes + done as u64;
        let within = usize::try_from(at % BLOCK_BYTES as u64).unwrap();
        let part = (BLOCK_BYTES - within).min(length - done);
        call(at / BLOCK_BYTES as u64, within, done..done + part);
        done += part;
    }
}

/// A disk that holds these blocks and remembers nothing.
pub(crate) struct MemoryDisk {
    size_bytes: u64,
    blocks: RwLock<Blocks>,
}

impl MemoryDisk {
    pub(crate) fn new(size_bytes: u64, blocks: Blocks) -> Self {
        Self { size_bytes, blocks: RwLock::new(blocks) }
    }
}

impl Storage for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.blocks.read().unwrap().read(offset_bytes, bytes);
        Ok(())
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.blocks.write().unwrap().write(offset_bytes, bytes);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone)]
enum Event {
    Write(u64, Arc<[u8]>),
    Flush,
}

/// A disk that remembers.
pub(crate) struct Recording {
    disk: MemoryDisk,
    events: Mutex<Vec<Event>>,
    position: AtomicU64,
}

impl Recording {
    pub(crate) fn new(size_bytes: u64) -> Self {
        Self {
            disk: MemoryDisk::new(size_bytes, Blocks::default()),
            events: Mutex::default(),
            position: AtomicU64::new(0),
        }
    }

    /// How many writes and flushes there were so far.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    /// From the beginning, with nothing on the disk.
    pub(crate) fn replay(&self) -> Replay {
        let events = self.events.lock().unwrap().clone();
        Replay { size_bytes: self.disk.size_bytes, events, durable: Blocks::default(), next: 0 }
    }

    /// Remembers, and only then does anybody hear that it was done.
    fn remember(&self, event: Event) {
        let mut events = self.events.lock().unwrap();
        if let Event::Write(offset_bytes, bytes) = &event {
            self.disk.blocks.write().unwrap().write(*offset_bytes, bytes);
        }
        events.push(event);
        self.position.store(events.len() as u64, Ordering::SeqCst);
    }
}

impl Storage for Recording {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes
    }

    fn read(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset_bytes, bytes)
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.remember(Event::Write(offset_bytes, bytes.into()));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.remember(Event::Flush);
        Ok(())
    }
}

/// Goes through a recording once, from cut to cut.
pub(crate) struct Replay {
    size_bytes: u64,
    events: Vec<Event>,
    /// All writes before the last flush that was passed.
    durable: Blocks,
    next: usize,
}

impl Replay {
    /// The disk after the power went at `position`, which must not be before that of the last cut: everything up to the last flush, and of
    /// the writes after it a random half, some of them torn. With `lost_flushes` the disk had lied about the last ones and lost all
    /// that came after.
    pub(crate) fn cut(&mut self, position: u64, lost_flushes: usize, random: &mut StdRng) -> MemoryDisk {
        let position = usize::try_from(position).unwrap();
        let flushes = (self.next..position).filter(|index| matches!(self.events[*index], Event::Flush));
        let flushes: Vec<usize> = flushes.collect();
        let last = flushes.len().checked_sub(1 + lost_flushes).map(|index| flushes[index]);
        if let Some(last) = last {
            for event in &self.events[self.next..last] {
                if let Event::Write(offset_bytes, bytes) = event {
                    self.durable.write(*offset_bytes, bytes);
                }
            }
            self.next = last + 1;
        }
        let mut blocks = self.durable.clone();
        let unflushed = if lost_flushes > 0 { &[] } else { &self.events[self.next..position] };
        for event in unflushed {
            if let Event::Write(offset_bytes, bytes) = event
                && random.random_ratio(1, 2)
            {
                survive(&mut blocks, *offset_bytes, bytes, random);
            }
        }
        MemoryDisk::new(self.size_bytes, blocks)
    }
}

/// Writes all of it, or some of its sectors. Superblocks are written whole by every disk: ext4 counts on it.
fn survive(blocks: &mut Blocks, offset_bytes: u64, bytes: &[u8], random: &mut StdRng) {
    let is_superblock = offset_bytes < BLOCK_BYTES as u64 || bytes.starts_with(&JOURNAL_SUPERBLOCK);
    if is_superblock || random.random_ratio(2, 3) {
        return blocks.write(offset_bytes, bytes);
    }
    let sectors = bytes.len().div_ceil(SECTOR_BYTES);
    let (from, to) = (random.random_range(0..sectors), random.random_range(0..=sectors));
    let in_order = random.random_ratio(1, 2);
    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        let survives = if in_order { (from..to).contains(&number) } else { random.random_ratio(1, 2) };
        if survives {
            blocks.write(offset_bytes + (number * SECTOR_BYTES) as u64, sector);
        }
    }
}
