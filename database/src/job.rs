//! An operation on its way through the writer.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use corten_types::{Error, Result};
use rusqlite::{Connection, ErrorCode};

use crate::{
    answer::Cell,
    error::{Refusal, code_of},
};

/// What becomes of the changes of one run.
pub(crate) enum Verdict {
    Commit,
    Rollback(Option<ErrorCode>),
}

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To change something.
    Change,
    /// To remove something, so that the reserve may be given up for it.
    MakeRoom,
    /// To be between two commits: nothing of it is kept.
    Look,
}

pub(crate) trait Job: Send {
    /// Runs the operation; the result is kept until the transaction is over.
    fn run(&mut self, connection: &Connection) -> Verdict;
    /// The changes of the last run are durable, or undone as it asked: effects, then the answer.
    fn settle(self: Box<Self>);
    /// Nothing of it is there, or nobody knows.
    fn fail(self: Box<Self>, error: Error);
    /// Whether it is to be run on a full disk.
    fn frees_space(&self) -> bool;
    /// When its caller began to wait.
    fn queued_at(&self) -> Instant;
}

pub(crate) struct Operation<T, F, A> {
    pub(crate) cell: Arc<Cell<T>>,
    pub(crate) operation: F,
    pub(crate) after: Option<A>,
    pub(crate) purpose: Purpose,
    pub(crate) result: Option<Result<T, Refusal>>,
    pub(crate) answered: bool,
    queued_at: Instant,
}

impl<T, F, A> Operation<T, F, A> {
    pub(crate) fn new(cell: Arc<Cell<T>>, operation: F, after: A, purpose: Purpose) -> Box<Self> {
        Box::new(Self {
            cell,
            operation,
            after: Some(after),
            purpose,
            result: None,
            answered: false,
            queued_at: Instant::now(),
        })
    }

    fn answer(&mut self, result: Result<T>) {
        self.answered = true;
        self.cell.fill(result);
    }
}

impl<T, F, A> Job for Operation<T, F, A>
where
    T: Send,
    F: Fn(&Connection) -> Result<T, Refusal> + Send,
    A: FnOnce(Result<&T, &Error>) + Send,
{
    fn run(&mut self, connection: &Connection) -> Verdict {
        let result = catch_unwind(AssertUnwindSafe(|| (self.operation)(connection)))
            .unwrap_or_else(|panic| Err(Refusal::Rollback(panicked(panic.as_ref()))));
        let verdict = match &result {
            Ok(_) if self.purpose == Purpose::Look => Verdict::Rollback(None),
            Ok(_) | Err(Refusal::Commit(_)) => Verdict::Commit,
            Err(Refusal::Rollback(error)) => Verdict::Rollback(code_of(error)),
        };
        self.result = Some(result);
        verdict
    }

    fn settle(mut self: Box<Self>) {
        let Some(result) = self.result.take() else { return };
        let (result, committed) = match result {
            Ok(value) => (Ok(value), true),
            Err(Refusal::Commit(error)) => (Err(error), true),
            Err(Refusal::Rollback(error)) => (Err(error), false),
        };
        if committed && let Some(after) = self.after.take() {
            // The change is durable whatever its effects do, and the next in line must not suffer.
            let _ = catch_unwind(AssertUnwindSafe(|| after(result.as_ref())));
        }
        self.answer(result);
    }

    fn fail(mut self: Box<Self>, error: Error) {
        self.answer(Err(error));
    }

    fn frees_space(&self) -> bool {
        self.purpose != Purpose::Change
    }

    fn queued_at(&self) -> Instant {
        self.queued_at
    }
}

impl<T, F, A> Drop for Operation<T, F, A> {
    /// Nobody waits for ever, whatever happens to the writer.
    fn drop(&mut self) {
        if !self.answered {
            self.cell.fill(Err(Error::unavailable("the database gave the operation up")));
        }
    }
}

/// The error for a closure that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::internal(format!("a database operation panicked: {text}"))
}
