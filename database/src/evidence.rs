//! What the files of a process that died say of its log: how many frames were committed.
//!
//! SQLite writes the header of its shared memory after the sync of a commit. So it never says more of a log than is on stable
//! storage, and a log that ends before what it says was damaged since; the checksums in the log alone cannot tell that from
//! a write that a power cut tore.

use std::{fs::File, io::Read, path::Path};

use crate::{core::PAGE_BYTES, marker::beside};

/// The header of the shared memory, of which there are two copies (the file format of SQLite's WAL-index, §2.1).
const HEADER_BYTES: usize = 48;

/// The header of the log (the file format of SQLite, §4.1).
const LOG_HEADER_BYTES: usize = 32;

/// The length of a log with one page: the least that a commit makes.
pub(crate) const LEAST_LOG_BYTES: u64 = LOG_HEADER_BYTES as u64 + 24 + PAGE_BYTES;

/// What the files said before they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    committed: Option<Committed>,
    log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    /// The number of frames in the log that are committed.
    frames: u32,
    /// Which log it speaks of: a new one has others.
    salts: [u8; 8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// There is none, or not one frame.
    Empty,
    /// Its header is whole.
    Begun { salts: [u8; 8] },
    /// Its header is not whole, and something follows: the header is synced before that is written. While a log is begun
    /// anew, what follows is the old one, all of which is in the database.
    Damaged { is_begun_anew: bool },
}

impl Evidence {
    /// What the files beside `database` say, before SQLite opens them.
    pub(crate) fn read(database: &Path) -> Self {
        Self { committed: committed(database), log: log(database) }
    }

    /// What is wrong with the log, now that SQLite has recovered what it could.
    pub(crate) fn contradicts(self, database: &Path) -> Option<String> {
        let salts = match self.log {
            Log::Empty => return None,
            Log::Damaged { is_begun_anew } => {
                // The shared memory is that of the new log before its header is written.
                let holds_nothing = self.committed.is_some_and(|committed| committed.frames == 0);
                return (!is_begun_anew && !holds_nothing)
                    .then(|| "the header of the write-ahead log is damaged".to_owned());
            }
            Log::Begun { salts } => salts,
        };
        // After a power cut the shared memory may be that of an older log.
        let before = self.committed.filter(|committed| committed.salts == salts)?.frames;
        let now = committed(database)?.frames;
        (now < before).then(|| {
            format!("the write-ahead log has {now} committed frames, but had {before}: its end was damaged")
        })
    }
}

/// None if the file is not there or was being written.
fn committed(database: &Path) -> Option<Committed> {
    let mut header = [0; 2 * HEADER_BYTES];
    File::open(beside(database, "-shm")).ok()?.read_exact(&mut header).ok()?;
    let (first, second) = header.split_at(HEADER_BYTES);
    let is_made = first[12] != 0;
    if first != second || !is_made {
        return None;
    }
    let frames = u32::from_ne_bytes(first[16..20].try_into().ok()?);
    Some(Committed { frames, salts: first[32..40].try_into().ok()? })
}

fn log(database: &Path) -> Log {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(beside(database, "-wal")) else { return Log::Empty };
    if file.take(LOG_HEADER_BYTES as u64 + 1).read_to_end(&mut bytes).is_err()
        || bytes.len() <= LOG_HEADER_BYTES
    {
        return Log::Empty;
    }
    match salts(&bytes) {
        Some(salts) => Log::Begun { salts },
        None => Log::Damaged { is_begun_anew: is_begun_anew(&bytes) },
    }
}

/// Whether the second half of a header fits the first but for the number of the log, which is one higher: a power cut tore the
/// header of the next log.
fn is_begun_anew(header: &[u8]) -> bool {
    let mut before = header.to_vec();
    let Some(number) = before.get_mut(12..16) else { return false };
    let number_now = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
    number.copy_from_slice(&number_now.wrapping_sub(1).to_be_bytes());
    salts(&before).is_some()
}

/// The salts of a header whose checksum is right.
fn salts(header: &[u8]) -> Option<[u8; 8]> {
    let word = |at: usize| header.get(at..at + 4)?.try_into().ok();
    let magic = u32::from_be_bytes(word(0)?);
    if magic & !1 != 0x377f_0682 {
        return None;
    }
    let number = |bytes| if magic & 1 == 1 { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let (mut first, mut second) = (0_u32, 0_u32);
    for at in (0..24).step_by(8) {
        first = first.wrapping_add(number(word(at)?)).wrapping_add(second);
        second = second.wrapping_add(number(word(at + 4)?)).wrapping_add(first);
    }
    let is_right = u32::from_be_bytes(word(24)?) == first && u32::from_be_bytes(word(28)?) == second;
    is_right.then(|| header.get(16..24)?.try_into().ok()).flatten()
}
