//! The handle: writes, reads, copies, closing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use corten_disk::RootLock;
use corten_types::{Error, ErrorKind, Result};
use rusqlite::{Connection, backup::Backup, config::DbConfig};

use crate::{
    answer::{Answer, Cell},
    checkpoint::{self, Checkpoint, Checkpointer, Mode},
    connection::{self, Role},
    core::Core,
    error::{Doing, Refusal},
    job::{Job, Operation, Purpose},
    marker::{Marker, Schema, beside},
    open::{self, OpenReport, Opened},
    options::Options,
    queue::Queue,
    statistics::Statistics,
    store_id::StoreId,
    turn::Turn,
    writer::Writer,
};

/// A database that is open. Dropping it closes it; share it in an `Arc`.
///
/// An **operation** is a closure over a transaction. It may run more than once, so it has no effects outside, and it
/// must not begin or end transactions. It is whole or absent: `Ok` and [`Refusal::Commit`] keep its changes,
/// [`Refusal::Rollback`] undoes them, and the answer comes when that is on stable storage.
pub struct Database {
    core: Arc<Core>,
    queue: Arc<Queue>,
    turn: Arc<Turn>,
    store_id: StoreId,
    generation: u64,
    schema: usize,
    running: Mutex<Option<Running>>,
}

/// What ends when the database is closed.
struct Running {
    writer: JoinHandle<()>,
    checkpointer: Option<JoinHandle<()>>,
    _lock: RootLock,
}

impl Database {
    /// Opens the database `path` (absolute; its folder must exist), or creates it.
    ///
    /// A damaged database is renamed, with its log, to a dated name and a new one begun; the report says so. Files
    /// that are there, damaged or not, are never deleted.
    ///
    /// # Errors
    /// - `Unavailable`: another process, or another handle in this one, has it open.
    /// - `FailedPrecondition`: a newer program wrote it, or it belongs to another program. It is untouched.
    /// - Others: the disk failed, or a migration did; it is as it was, and a later open goes on.
    pub fn open(path: &Path, options: Options) -> Result<(Self, OpenReport)> {
        let lock = RootLock::acquire_file(&beside(path, ".lock"), "a Corten database").map_err(|error| {
            Error::unavailable(format!("cannot open {}", path.display())).with_source(error)
        })?;
        let core = Arc::new(Core::new(path.to_owned(), &options)?);
        let opened = match open::open(&core, options.migrations) {
            // Without a start there are no deletions, which are what the reserve is for.
            Err(error) if error.kind() == ErrorKind::ResourceExhausted && core.reserve.give_up() => {
                open::open(&core, options.migrations)
            }
            result => result,
        };
        let Opened { connection, commits, report } = opened?;
        core.reserve.make();
        let queue = Arc::new(Queue::new(options.queue_length));
        let writer = Writer::new(Arc::clone(&core), options.batch_length, connection, commits)?;
        let turn = Arc::new(Turn::new(Arc::clone(&queue), writer));
        let started = |error| Error::io("cannot start a thread of the database", error);
        let serving = Arc::clone(&turn);
        let writer = thread::Builder::new()
            .name("database-writer".to_owned())
            .spawn(move || serving.serve())
            .map_err(started)?;
        let running = Running { writer, checkpointer: None, _lock: lock };
        let database = Self {
            core: Arc::clone(&core),
            queue,
            turn,
            store_id: report.store_id.clone(),
            generation: report.generation,
            schema: report.schema,
            running: Mutex::new(Some(running)),
        };
        if !core.is_scripted() {
            let thread = thread::Builder::new()
                .name("database-checkpoint".to_owned())
                .spawn(move || Checkpointer::serve(&core))
                .map_err(started)?;
            if let Some(running) = &mut *database.running() {
                running.checkpointer = Some(thread);
            }
        }
        Ok((database, report))
    }

    /// Queues `operation` and answers when it is durable.
    ///
    /// Operations that are queued together share a sync. See [`Answer::wait`] for the errors.
    pub fn write<T, F>(&self, operation: F) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
    {
        self.enqueue(operation, |_| (), Purpose::Change)
    }

    /// As [`Database::write`], and runs `after` on the writer's thread once the changes are durable, in the order of
    /// the commits and before the answer. It gets the value, or the error of a [`Refusal::Commit`]; after a rollback it
    /// is not run. It must be quick and must not wait for this database.
    pub fn write_then<T, F, A>(&self, operation: F, after: A) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
        A: FnOnce(Result<&T, &Error>) + Send + 'static,
    {
        self.enqueue(operation, after, Purpose::Change)
    }

    /// Whether operations that make no room would be refused now. For work that has to be done before the operation.
    ///
    /// # Errors
    /// `ResourceExhausted`: the disk is full.
    pub fn check_room(&self) -> Result<()> {
        self.core.check_room()
    }

    /// As [`Database::write_then`], for an operation that makes room: on a full disk the reserve is given up for it.
    pub fn write_freeing<T, F, A>(&self, operation: F, after: A) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
        A: FnOnce(Result<&T, &Error>) + Send + 'static,
    {
        self.enqueue(operation, after, Purpose::MakeRoom)
    }

    /// Queues `look`, which sees what was committed before it and nothing of what is committed after it, and answers when the
    /// former is durable. What it changes is undone, and nothing is synced for it.
    pub fn visit<T, F>(&self, look: F) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
    {
        self.enqueue(look, |_| (), Purpose::Look)
    }

    /// As [`Database::write`], for threads that may block: it returns when the operation is durable. When nobody else writes, the
    /// operation and its sync are done on the calling thread.
    ///
    /// # Errors
    /// As [`Answer::wait`].
    pub fn run<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
    {
        self.run_or_queue(operation, |_| (), Purpose::Change)
    }

    /// As [`Database::write_then`], for threads that may block, like [`Database::run`]: `after`, too, may be run on the calling
    /// thread.
    ///
    /// # Errors
    /// As [`Answer::wait`].
    pub fn run_then<T, F, A>(&self, operation: F, after: A) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
        A: FnOnce(Result<&T, &Error>) + Send + 'static,
    {
        self.run_or_queue(operation, after, Purpose::Change)
    }

    /// As [`Database::write_freeing`], for threads that may block, like [`Database::run_then`].
    ///
    /// # Errors
    /// As [`Answer::wait`].
    pub fn run_freeing<T, F, A>(&self, operation: F, after: A) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
        A: FnOnce(Result<&T, &Error>) + Send + 'static,
    {
        self.run_or_queue(operation, after, Purpose::MakeRoom)
    }

    fn run_or_queue<T, F, A>(&self, operation: F, after: A, purpose: Purpose) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
        A: FnOnce(Result<&T, &Error>) + Send + 'static,
    {
        let cell = Cell::new();
        let job: Box<dyn Job> = Operation::new(Arc::clone(&cell), operation, after, purpose);
        match self.turn.run(job) {
            Ok(()) => Answer::of(cell).wait(),
            Err(job) => Answer::enqueue(cell, job, &self.queue).wait(),
        }
    }

    fn enqueue<T, F, A>(&self, operation: F, after: A, purpose: Purpose) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Refusal> + Send + 'static,
        A: FnOnce(Result<&T, &Error>) + Send + 'static,
    {
        let cell = Cell::new();
        let job = Operation::new(Arc::clone(&cell), operation, after, purpose);
        Answer::enqueue(cell, job, &self.queue)
    }

    /// Runs `read` in a read transaction: it sees one state of the database and waits for no writer. It blocks; keep it
    /// short, because the log cannot be cut while it runs.
    ///
    /// # Errors
    /// What `read` fails with; `Unavailable` if the database was closed or its disk failed; `Internal` if `read` panicked.
    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Refusal>) -> Result<T> {
        self.core.readers.read(|| self.core.open(Role::Reader), read)
    }

    /// Copies the log into the database as far as no reader holds it back. A thread does this by itself, except on a
    /// scripted disk.
    ///
    /// # Errors
    /// Those of the disk; nothing is lost, and a later call goes on.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        self.core.checkpointer.checkpoint(&self.core, Mode::Passive)
    }

    /// Makes a copy of one state of the database at `target`, which must not exist, while everything goes on.
    ///
    /// # Errors
    /// - `AlreadyExists`: there is something at `target`. It is untouched.
    /// - Those of the disk; `target` may be there, and is incomplete.
    pub fn copy_to(&self, target: &Path) -> Result<()> {
        if target.symlink_metadata().is_ok() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("cannot copy the database to {}: it exists", target.display()),
            ));
        }
        let what = format!("cannot copy the database to {}", target.display());
        let source = self.core.open(Role::Reader)?;
        let mut copy = Connection::open(target).doing(&what)?;
        {
            let backup = Backup::new(&source, &mut copy).doing(&what)?;
            // All pages in one step: one state, without beginning again whenever somebody commits.
            backup.step(-1).doing(&what)?;
        }
        copy.close().map_err(|(_, error)| error).doing(&what)?;
        let folder = target.parent().unwrap_or_else(|| Path::new("/"));
        self.core.disk.sync_folder(folder).map_err(|error| Error::io(what, error))
    }

    /// Looks at every page, row and index, and says what is wrong: nothing if all is well. It reads everything, on the calling
    /// thread, while writers go on.
    ///
    /// # Errors
    /// Those of the disk, and of a database that was closed.
    pub fn check(&self) -> Result<Vec<String>> {
        let connection = self.core.open(Role::Reader)?;
        connection::full_check(&connection)
    }

    /// Gives back the memory that keeps pages for being read again: for after a piece of work that touched many. What is
    /// read next comes from the system's cache. Nothing is committed for it.
    pub fn release_memory(&self) -> Answer<()> {
        self.core.readers.forget_idle();
        self.visit(|connection| Ok(connection.release_memory()?))
    }

    /// Makes every index anew from its table.
    pub fn reindex(&self) -> Answer<()> {
        self.write(|connection| Ok(connection.execute_batch("REINDEX")?))
    }

    /// Notes that what was found damaged is settled: the next open is healthy.
    pub fn release_quarantine(&self) -> Answer<()> {
        self.write(|connection| {
            connection.execute("UPDATE corten_database SET quarantine = NULL", [])?;
            Ok(())
        })
    }

    /// The identity of the store.
    #[must_use]
    pub fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.core.path
    }

    /// How many operations were answered after their transaction was over: [`Statistics::operations`] alone.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.core.statistics().operations
    }

    /// What was done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.core.statistics().clone()
    }

    /// Serves what is queued, copies the log into the database and marks it as closed. Later calls fail with
    /// `Unavailable`; a second close does nothing.
    ///
    /// # Errors
    /// Those of the disk. Everything acknowledged is durable all the same, and the next open recovers.
    pub fn close(&self) -> Result<()> {
        let Some(running) = self.running().take() else { return Ok(()) };
        self.queue.close();
        self.core.checkpointer.close();
        if running.writer.thread().id() == thread::current().id() {
            // The last handle went with an effect of the writer: it ends by itself, as after a crash.
            return Ok(());
        }
        if let Some(thread) = running.checkpointer {
            thread.join().map_err(|_| Error::internal("the checkpoint thread of the database panicked"))?;
        }
        running.writer.join().map_err(|_| Error::internal("the database writer panicked"))?;
        let ended = self.turn.end();
        self.core.readers.close();
        self.core.checkpointer.disconnect();
        let Some((connection, commits)) = ended else { return Ok(()) };
        let done = checkpoint::run(&connection, Mode::Restart)?;
        if done.busy {
            return Ok(());
        }
        let marker = Marker {
            store_id: self.store_id.clone(),
            generation: self.generation,
            schema: Some(Schema::Is(self.schema)),
            closed_at: Some(commits),
        };
        marker.write(&self.core.disk, &self.core.path)?;
        // All of the log is in the database and the marker says so: now SQLite may remove it.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .and_then(|_| connection.close().map_err(|(_, error)| error))
            .doing("cannot close the database")
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`; without its marker the next open recovers.
        let _ = self.close();
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").field("path", &self.core.path).finish_non_exhaustive()
    }
}
