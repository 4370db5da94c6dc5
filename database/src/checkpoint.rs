//! Copying the write-ahead log into the database, beside the writer.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use corten_types::{Error, Result};
use rusqlite::Connection;

use crate::{
    connection::{self, Role},
    core::{Core, PAGE_BYTES, out_of_order},
    error::Doing,
    marker::beside,
};

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Somebody read or wrote, so that a part had to stay in the log.
    pub busy: bool,
    /// The pages in the log.
    pub log_pages: u64,
    /// How many of them are in the database.
    pub copied_pages: u64,
}

/// How long a checkpoint that has the log begun anew waits for readers, while the writer waits for it.
const CUT_PATIENCE: Duration = Duration::from_millis(200);

/// How often the thread looks whether the reserve is there.
const ROUND: Duration = Duration::from_secs(30);

/// How often it looks whether there is room for one that is missing: the disk may fill again soon, and deletions need it then.
const ROUND_WITHOUT_RESERVE: Duration = Duration::from_secs(1);

/// The log can begin anew only after a moment at which all of it is copied, which under load never comes by itself. So few pages
/// the writer copies between two commits, once for every log.
const LAST_PAGES: u64 = 128;

pub(crate) struct Checkpointer {
    pub(crate) start_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// The length of the log at which another round is worth its syncs, which slow the writer's down.
    next_bytes: AtomicU64,
    /// Nearly all of the log is copied: the writer is to copy the rest.
    is_nearly_done: AtomicBool,
    connection: Mutex<Option<Connection>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Copies what no reader holds back; nobody waits for it.
    Passive,
    /// Copies everything, so that the next commit begins the log anew and cuts it; the writer waits.
    ///
    /// Nothing ever cuts the log to nothing while the marker says `open`: one that is empty then was lost.
    Restart,
}

impl Checkpointer {
    pub(crate) fn new(start_bytes: u64, limit_bytes: u64) -> Self {
        Self {
            start_bytes,
            next_bytes: AtomicU64::new(start_bytes),
            is_nearly_done: AtomicBool::new(false),
            limit_bytes: limit_bytes.max(start_bytes).min(u64::MAX / 4),
            connection: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Tells how long the log is after a commit; says whether the writer is to copy the rest of it.
    pub(crate) fn committed(&self, wal_bytes: u64) -> bool {
        if wal_bytes < self.start_bytes {
            self.next_bytes.store(self.start_bytes, Ordering::Relaxed);
            self.is_nearly_done.store(false, Ordering::Relaxed);
        } else if wal_bytes >= self.next_bytes.load(Ordering::Relaxed) {
            self.want();
        }
        self.is_nearly_done.swap(false, Ordering::Relaxed)
    }

    /// Asks the thread for a round.
    pub(crate) fn want(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted = true;
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Closes the connection, because the database is being reopened or closed.
    pub(crate) fn disconnect(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the thread does until it is closed.
    pub(crate) fn serve(core: &Arc<Core>) {
        let this = &core.checkpointer;
        loop {
            let round = if core.reserve.is_missing() { ROUND_WITHOUT_RESERVE } else { ROUND };
            {
                let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
                while !state.wanted && !state.closed {
                    let (next, timeout) =
                        this.changed.wait_timeout(state, round).unwrap_or_else(PoisonError::into_inner);
                    state = next;
                    if timeout.timed_out() {
                        break;
                    }
                }
                if state.closed {
                    return;
                }
                state.wanted = false;
            }
            this.round(core);
            core.reserve.make();
        }
    }

    fn round(&self, core: &Core) {
        if core.wal_bytes() < self.start_bytes {
            return;
        }
        let mode = if core.wal_bytes() >= self.limit_bytes { Mode::Restart } else { Mode::Passive };
        let result = self.checkpoint(core, mode);
        let wal_bytes = core.wal_bytes();
        self.next_bytes.store(wal_bytes + self.start_bytes / 8, Ordering::Relaxed);
        if let Ok(done) = &result {
            let left = (wal_bytes / PAGE_BYTES).saturating_sub(done.copied_pages);
            self.is_nearly_done.store((1..=LAST_PAGES).contains(&left), Ordering::Relaxed);
        }
        let mut statistics = core.statistics();
        statistics.checkpoints += 1;
        // The log keeps what was not copied, and a later round copies those pages again.
        statistics.checkpoint_failures += u64::from(result.is_err());
    }

    /// Does `work` while the thread is not in a checkpoint; waits for the end of one that is under way.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let _slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// The same, unless the thread is in one.
    pub(crate) fn alone_now<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let _slot = self.connection.try_lock().ok()?;
        Some(work())
    }

    pub(crate) fn checkpoint(&self, core: &Core, mode: Mode) -> Result<Checkpoint> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match slot.take() {
            Some(connection) => connection,
            None => core.open(Role::Checkpointer)?,
        };
        let done = run(&connection, mode)?;
        // Kept only after success: a connection that failed is closed.
        *slot = Some(connection);
        Ok(done)
    }
}

/// Runs a checkpoint on `connection`.
pub(crate) fn run(connection: &Connection, mode: Mode) -> Result<Checkpoint> {
    let what = "cannot copy the write-ahead log into the database";
    let statement = match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Restart => "PRAGMA wal_checkpoint(RESTART)",
    };
    connection.busy_timeout(if mode == Mode::Restart { CUT_PATIENCE } else { Duration::ZERO }).doing(what)?;
    let answer = connection.query_row(statement, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    connection.busy_timeout(connection::WRITER_PATIENCE).doing(what)?;
    let (busy, log_pages, copied_pages): (i64, i64, i64) = answer.doing(what)?;
    let count = |pages: i64| u64::try_from(pages).unwrap_or(0);
    Ok(Checkpoint { busy: busy != 0, log_pages: count(log_pages), copied_pages: count(copied_pages) })
}

/// How much of the log is in memory while it is written over itself: bytes.
const RENEWED_TOGETHER_BYTES: usize = 1 << 20;

/// Writes the log over itself and syncs it. Nobody may have the database open.
///
/// After a sync that failed, the kernel shows bytes that may never have reached the disk and does not try them again;
/// another sync succeeds without them. To copy such a log into the database would not do: until it is cut durably, what
/// a power cut leaves of the log would hide newer pages of the database behind older ones.
pub(crate) fn renew_log(core: &Core) -> Result<()> {
    let path = beside(&core.path, "-wal");
    let renewed = || -> io::Result<()> {
        let mut file = match core.disk.open_append(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let mut buffer = vec![0; RENEWED_TOGETHER_BYTES];
        let mut offset = 0;
        loop {
            let length = file.reader().read_at(&mut buffer, offset)?;
            if length == 0 {
                return file.sync_all();
            }
            file.write_all_at(&buffer[..length], offset)?;
            offset += length as u64;
        }
    };
    renewed()
        .map_err(|error| out_of_order(core, Error::io(format!("cannot renew {}", path.display()), error)))
}
