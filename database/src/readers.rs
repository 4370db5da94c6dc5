//! The connections for reading, lent one at a time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use corten_types::{Error, Result};
use rusqlite::Connection;

use crate::{
    error::{Refusal, code_of, is_storage},
    job::panicked,
};

pub(crate) struct Readers {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
    /// The writer reopens the database: nobody may have it open meanwhile.
    blocked: bool,
    closed: bool,
}

impl Readers {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` in a read transaction on a connection that is free, or on a new one from `open`; waits for one if
    /// all are lent.
    pub(crate) fn read<T>(
        &self,
        open: impl FnOnce() -> Result<Connection>,
        read: impl FnOnce(&Connection) -> Result<T, Refusal>,
    ) -> Result<T> {
        let loan = self.lend(open)?;
        let connection = loan.connection.as_ref().expect("a loan has its connection until it ends");
        let result = catch_unwind(AssertUnwindSafe(|| -> Result<T, Refusal> {
            connection.prepare_cached("BEGIN")?.execute([])?;
            read(connection)
        }));
        let ended = connection.is_autocommit()
            || connection.prepare_cached("ROLLBACK").is_ok_and(|mut statement| statement.execute([]).is_ok());
        match result {
            Ok(Ok(value)) => {
                loan.end(ended);
                Ok(value)
            }
            Ok(Err(refusal)) => {
                let error = refusal.into_error();
                loan.end(ended && !is_storage(code_of(&error)));
                Err(error)
            }
            Err(panic) => {
                loan.end(false);
                Err(panicked(panic.as_ref()))
            }
        }
    }

    fn lend(&self, open: impl FnOnce() -> Result<Connection>) -> Result<Loan<'_>> {
        let mut state = self.lock();
        while !state.closed && (state.blocked || state.lent >= self.limit) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Error::unavailable("the database is closed"));
        }
        state.lent += 1;
        let idle = state.idle.pop();
        drop(state);
        let mut loan = Loan { readers: self, connection: idle, is_good: false };
        if loan.connection.is_none() {
            loan.connection = Some(open()?);
        }
        Ok(loan)
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn forget_idle(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        drop(idle);
    }

    /// Waits until no connection is left and lets nobody in until the guard goes.
    pub(crate) fn block(&self) -> Blocked<'_> {
        let mut state = self.lock();
        state.blocked = true;
        let mut idle = std::mem::take(&mut state.idle);
        while state.lent > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            idle.append(&mut state.idle);
        }
        drop(state);
        drop(idle);
        Blocked { readers: self }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        drop(self.block());
    }
}

/// Nobody reads while this lives.
pub(crate) struct Blocked<'a> {
    readers: &'a Readers,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.readers.lock().blocked = false;
        self.readers.changed.notify_all();
    }
}

struct Loan<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
    is_good: bool,
}

impl Loan<'_> {
    fn end(mut self, is_good: bool) {
        self.is_good = is_good;
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut connection = self.connection.take();
        if !self.is_good {
            // Closed before the place is free: whoever waits for all places finds no connection.
            connection = None;
        }
        let mut state = self.readers.lock();
        state.lent -= 1;
        state.idle.extend(connection);
        drop(state);
        self.readers.changed.notify_all();
    }
}
