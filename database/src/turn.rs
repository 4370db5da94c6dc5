//! Whose turn it is to write: the writer's thread takes what is queued; a caller that may block and finds nobody else does its own
//! operation, and spares two threads being woken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::{job::Job, queue::Queue, writer::Writer};

/// The writer, lent to one thread at a time.
pub(crate) struct Turn {
    queue: Arc<Queue>,
    /// None once the database was closed.
    writer: Mutex<Option<Writer>>,
}

impl Turn {
    pub(crate) fn new(queue: Arc<Queue>, writer: Writer) -> Self {
        Self { queue, writer: Mutex::new(Some(writer)) }
    }

    /// What the writer's thread does until the queue is closed and empty.
    pub(crate) fn serve(&self) {
        while self.queue.wait() {
            if let Some(writer) = &mut *self.lock() {
                writer.serve(&self.queue);
            }
        }
    }

    /// Runs a job on this thread, with its sync, if nobody writes or waits; else gives it back. Callers that come together share a
    /// sync instead: when there were several of late, this gives it back, too.
    pub(crate) fn run(&self, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let Ok(mut turn) = self.writer.try_lock() else { return Err(job) };
        match &mut *turn {
            Some(writer) if self.queue.is_idle() && !writer.is_shared() => {
                // Whoever comes meanwhile wakes the writer's thread, which waits for the turn.
                writer.run(vec![job], &self.queue);
                Ok(())
            }
            _ => Err(job),
        }
    }

    /// Ends it, after the thread: the connection, if it is in order, and the number of the last commit.
    pub(crate) fn end(&self) -> Option<(Connection, u64)> {
        self.lock().take().and_then(Writer::end)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            // Somebody panicked in the middle of a transaction: what is on the disk counts.
            let mut turn = poisoned.into_inner();
            if let Some(writer) = &mut *turn {
                writer.distrust();
            }
            self.writer.clear_poison();
            turn
        })
    }
}
