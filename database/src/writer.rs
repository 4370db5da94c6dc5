//! The one writer: batches, commits, answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use corten_types::{Error, Result};
use rusqlite::{Connection, ErrorCode};

use crate::{
    checkpoint::{self, Mode},
    connection::Role,
    core::{Core, out_of_order},
    error::{classified, code_of, is_storage},
    job::{Job, Verdict},
    queue::Queue,
    record,
};

/// The most that the writer waits for more operations before it begins a batch.
const GATHERING_LIMIT: Duration = Duration::from_micros(500);

pub(crate) struct Writer {
    /// None after a failed commit, until the database was opened again. It is closed before what it needs goes.
    connection: Option<Connection>,
    core: Arc<Core>,
    batch_length: usize,
    /// The number of the last commit that is known.
    commits: u64,
    recent_length: usize,
    recent_commit: Duration,
    /// The length of the log at which the writer cuts it.
    cut_log_at: u64,
    /// True while the writer itself commits.
    may_commit: Arc<AtomicBool>,
}

/// How a transaction ended.
enum Attempt {
    /// Committed, or all operations were refused.
    Done,
    /// Rolled back as a whole, because of the storage.
    GivenUp(Error),
    /// The commit failed: its outcome is unknown.
    Unknown(Error),
}

impl Writer {
    pub(crate) fn new(
        core: Arc<Core>,
        batch_length: usize,
        mut connection: Connection,
        commits: u64,
    ) -> Result<Self> {
        let may_commit = Arc::default();
        let cut_log_at = 2 * core.checkpointer.limit_bytes;
        guard_commits(&mut connection, &may_commit)?;
        Ok(Self {
            core,
            batch_length: batch_length.max(1),
            connection: Some(connection),
            commits,
            recent_length: 0,
            recent_commit: Duration::ZERO,
            cut_log_at,
            may_commit,
        })
    }

    /// Serves a batch of what is queued.
    pub(crate) fn serve(&mut self, queue: &Queue) {
        let patience = (self.recent_commit / 4).min(GATHERING_LIMIT);
        let batch = queue.take(self.batch_length, self.recent_length, patience);
        self.run(batch, queue);
    }

    /// Runs a batch that nobody else has, and answers.
    pub(crate) fn run(&mut self, batch: Vec<Box<dyn Job>>, queue: &Queue) {
        let length = batch.len();
        self.run_batch(batch);
        // Whoever waits by now and whoever was just answered: all of them may come together next time.
        self.recent_length = if length > 1 { length + queue.len() } else { queue.len() };
        self.bound_log();
    }

    /// Whether several callers are expected to come together.
    pub(crate) fn is_shared(&self) -> bool {
        self.recent_length > 1
    }

    /// Makes the next batch look at the disk anew.
    pub(crate) fn distrust(&mut self) {
        self.connection = None;
    }

    /// The connection, if it is in order, and the number of the last commit.
    pub(crate) fn end(self) -> Option<(Connection, u64)> {
        self.connection.map(|connection| (connection, self.commits))
    }

    /// Has the log copied when it is long, and here when the thread for that does not get to it.
    fn bound_log(&mut self) {
        let wal_bytes = self.core.wal_bytes();
        let checkpointer = &self.core.checkpointer;
        let is_nearly_done = checkpointer.committed(wal_bytes);
        if wal_bytes < checkpointer.start_bytes {
            self.cut_log_at = 2 * checkpointer.limit_bytes;
        }
        if self.core.is_scripted() {
            return;
        }
        if is_nearly_done
            && let Some(connection) = &self.connection
            && let Some(result) = checkpointer.alone_now(|| checkpoint::run(connection, Mode::Passive))
        {
            let mut statistics = self.core.statistics();
            statistics.checkpoints += 1;
            statistics.checkpoint_failures += u64::from(result.is_err());
        }
        if wal_bytes < self.cut_log_at {
            return;
        }
        // A reader may hold it back; writers wait for that once for every limit that the log grows by.
        self.cut_log_at = wal_bytes + checkpointer.limit_bytes;
        let Some(connection) = &self.connection else { return };
        // SQLite refuses a second checkpoint at once, without waiting, while the thread is in the middle of its own.
        let result = checkpointer.alone(|| checkpoint::run(connection, Mode::Restart));
        let mut statistics = self.core.statistics();
        statistics.checkpoints += 1;
        statistics.checkpoint_failures += u64::from(result.is_err());
    }

    fn run_batch(&mut self, batch: Vec<Box<dyn Job>>) {
        let mut batch = self.refuse_growth(batch);
        if batch.is_empty() {
            return;
        }
        match self.attempt(&mut batch) {
            Attempt::Done => self.settle(batch),
            Attempt::GivenUp(_) => {
                self.core.statistics().replays += 1;
                batch.into_iter().for_each(|job| self.run_alone(job));
            }
            Attempt::Unknown(_) => match self.learn() {
                Ok(true) => self.settle(batch),
                Ok(false) => {
                    self.core.statistics().replays += 1;
                    batch.into_iter().for_each(|job| self.run_alone(job));
                }
                Err(error) => fail_all(batch, &self.core, &error),
            },
        }
    }

    /// On a full disk only what makes room is tried. The log may still have room for some changes, and that is for deletions.
    fn refuse_growth(&self, batch: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let Err(full) = self.core.check_room() else { return batch };
        let (freeing, growing): (Vec<_>, Vec<_>) = batch.into_iter().partition(|job| job.frees_space());
        growing.into_iter().for_each(|job| job.fail(Error::new(full.kind(), full.chain())));
        freeing
    }

    /// One operation, one transaction: each caller gets the result that is its own.
    fn run_alone(&mut self, job: Box<dyn Job>) {
        let mut batch = vec![job];
        let mut may_use_reserve = true;
        loop {
            let cause = match self.attempt(&mut batch) {
                Attempt::Done => return self.settle(batch),
                Attempt::GivenUp(cause) => cause,
                Attempt::Unknown(cause) => match self.learn() {
                    Ok(true) => return self.settle(batch),
                    Ok(false) => cause,
                    Err(error) => return fail_all(batch, &self.core, &error),
                },
            };
            let is_full = code_of(&cause) == Some(ErrorCode::DiskFull);
            let frees_space = batch.iter().any(|job| job.frees_space());
            if is_full && frees_space && may_use_reserve && self.core.reserve.give_up() {
                may_use_reserve = false;
                self.core.statistics().reserve_used += 1;
                self.core.checkpointer.want();
                continue;
            }
            batch.into_iter().for_each(|job| job.fail(refused(&self.core, &cause)));
            return;
        }
    }

    /// Runs `jobs` in one transaction.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Attempt {
        if self.connection.is_none()
            && let Err(error) = self.reopen()
        {
            return Attempt::GivenUp(error);
        }
        let connection = self.connection.as_ref().expect("it was opened above");
        let started = Instant::now();
        let changed = match run_jobs(connection, jobs, self.commits + 1) {
            Ok(changed) => changed,
            Err(error) => {
                if !end_transaction(connection) {
                    self.connection = None;
                }
                return Attempt::GivenUp(error);
            }
        };
        if !changed {
            if !end_transaction(connection) {
                self.connection = None;
            }
            return Attempt::Done;
        }
        let commit_started = Instant::now();
        self.may_commit.store(true, Ordering::Relaxed);
        let committed = execute(connection, "COMMIT");
        self.may_commit.store(false, Ordering::Relaxed);
        if let Err(error) = committed {
            return Attempt::Unknown(error);
        }
        self.commits += 1;
        self.recent_commit = commit_started.elapsed();
        let mut statistics = self.core.statistics();
        statistics.commits += 1;
        statistics.wal_bytes = self.core.wal_bytes();
        statistics.batch_lengths.record(jobs.len() as u64);
        statistics.commit_micros.record_time(self.recent_commit);
        statistics.run_micros.record_time(commit_started - started);
        Attempt::Done
    }

    fn settle(&mut self, batch: Vec<Box<dyn Job>>) {
        {
            let now = Instant::now();
            let mut statistics = self.core.statistics();
            statistics.operations += batch.len() as u64;
            for job in &batch {
                statistics.record_wait(now.saturating_duration_since(job.queued_at()));
            }
        }
        batch.into_iter().for_each(Job::settle);
    }

    /// Learns what became of a commit that failed: whether all of it is there, durably, or nothing.
    fn learn(&mut self) -> Result<bool> {
        let attempted = self.commits + 1;
        self.reopen()?;
        Ok(self.commits >= attempted)
    }

    /// Opens the database again with no other connection left, so that SQLite reads the log from the disk anew.
    fn reopen(&mut self) -> Result<()> {
        self.connection = None;
        self.core.statistics().reopened += 1;
        let _nobody_reads = self.core.readers.block();
        self.core.checkpointer.disconnect();
        // Before anybody reads it: what is read is then also what a power cut leaves.
        checkpoint::renew_log(&self.core)?;
        let mut connection = self.core.open(Role::Writer)?;
        let commits = record::commits(&connection)?;
        guard_commits(&mut connection, &self.may_commit)?;
        self.commits = commits;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Runs every operation in its savepoint; says whether there is anything to commit. On an error the transaction is not
/// to be committed, and may be gone already.
fn run_jobs(connection: &Connection, jobs: &mut [Box<dyn Job>], number: u64) -> Result<bool> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let mut changed = false;
    for job in jobs {
        execute(connection, "SAVEPOINT operation")?;
        let verdict = job.run(connection);
        if connection.is_autocommit() {
            let lost = rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(match &verdict {
                    Verdict::Rollback(Some(ErrorCode::DiskFull)) => rusqlite::ffi::SQLITE_FULL,
                    Verdict::Rollback(Some(ErrorCode::DatabaseCorrupt)) => rusqlite::ffi::SQLITE_CORRUPT,
                    _ => rusqlite::ffi::SQLITE_IOERR,
                }),
                None,
            );
            return Err(classified("the transaction was given up", lost));
        }
        match verdict {
            Verdict::Commit => changed = true,
            Verdict::Rollback(code) if is_storage(code) => {
                let failure = rusqlite::ffi::Error {
                    code: code.unwrap_or(ErrorCode::SystemIoFailure),
                    extended_code: 0,
                };
                let error = rusqlite::Error::SqliteFailure(failure, None);
                return Err(classified("the storage failed below an operation", error));
            }
            Verdict::Rollback(_) => execute(connection, "ROLLBACK TO operation")?,
        }
        execute(connection, "RELEASE operation")?;
    }
    if changed {
        record::set_commits(connection, number)
            .map_err(|error| classified("cannot number the commit", error))?;
    }
    Ok(changed)
}

/// Turns every commit into a rollback except the writer's own.
///
/// When SQLite gives a transaction up below an operation that does not notice, its next statements would be
/// transactions of their own, and stay.
fn guard_commits(connection: &mut Connection, may_commit: &Arc<AtomicBool>) -> Result<()> {
    let may_commit = Arc::clone(may_commit);
    connection
        .commit_hook(Some(move || !may_commit.load(Ordering::Relaxed)))
        .map_err(|error| classified("cannot guard the commits", error))
}

/// Rolls back what is left; says whether the connection can be used on.
fn end_transaction(connection: &Connection) -> bool {
    connection.is_autocommit() || (execute(connection, "ROLLBACK").is_ok() && connection.is_autocommit())
}

fn execute(connection: &Connection, statement: &str) -> Result<()> {
    connection
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute([]))
        .map(drop)
        .map_err(|error| classified(format!("{statement} failed"), error))
}

/// The answer for an operation whose own transaction failed because of the storage: nothing of it is there.
fn refused(core: &Core, cause: &Error) -> Error {
    let what = match code_of(cause) {
        Some(ErrorCode::DiskFull) => "the disk of the database is full",
        _ => "the database could not store the change",
    };
    Error::new(cause.kind(), format!("{what} ({}): {}", core.path.display(), cause.chain()))
}

fn fail_all(batch: Vec<Box<dyn Job>>, core: &Core, error: &Error) {
    for job in batch {
        job.fail(out_of_order(core, Error::new(error.kind(), error.chain())));
    }
}
