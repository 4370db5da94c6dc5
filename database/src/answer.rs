//! The answer of an operation, for async callers and for blocking ones.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use corten_types::{Error, Result};

use crate::{
    job::Job,
    queue::{PushError, Queue},
};

/// The answer of an operation: a future, and for threads that may block, [`Answer::wait`].
///
/// The operation runs whether or not this is polled or kept, except that it is given up with this value while the queue
/// is full and it has not got in yet.
#[must_use = "the result of the operation comes here"]
pub struct Answer<T> {
    cell: Arc<Cell<T>>,
    outside: Option<(Box<dyn Job>, Arc<Queue>)>,
}

impl<T> Answer<T> {
    /// Of an operation that is with the writer.
    pub(crate) fn of(cell: Arc<Cell<T>>) -> Self {
        Self { cell, outside: None }
    }

    pub(crate) fn enqueue(cell: Arc<Cell<T>>, job: Box<dyn Job>, queue: &Arc<Queue>) -> Self {
        let outside = match queue.try_push(job, None) {
            Ok(()) => None,
            Err(PushError::Closed(job)) => {
                job.fail(closed());
                None
            }
            Err(PushError::Full(job)) => Some((job, Arc::clone(queue))),
        };
        Self { cell, outside }
    }

    /// Blocks until the operation is durable, or refused.
    ///
    /// # Errors
    /// What the operation was refused with; `Unavailable` if the database was closed or its disk failed;
    /// `ResourceExhausted` if the disk is full; `Internal` if the operation panicked.
    pub fn wait(mut self) -> Result<T> {
        if let Some((job, queue)) = self.outside.take()
            && let Err(job) = queue.push(job)
        {
            job.fail(closed());
        }
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            state = self.cell.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some((job, queue)) = self.outside.take() {
            match queue.try_push(job, Some(context.waker())) {
                Ok(()) => {}
                Err(PushError::Closed(job)) => job.fail(closed()),
                Err(PushError::Full(job)) => {
                    self.outside = Some((job, queue));
                    return Poll::Pending;
                }
            }
        }
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> std::fmt::Debug for Answer<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Answer").field("queued", &self.outside.is_none()).finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::unavailable("the database is closed")
}

/// Where the writer puts the result.
pub(crate) struct Cell<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    result: Option<Result<T>>,
    waker: Option<Waker>,
}

impl<T> Cell<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { result: None, waker: None }), filled: Condvar::new() })
    }

    pub(crate) fn fill(&self, result: Result<T>) {
        let waker = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.result = Some(result);
            state.waker.take()
        };
        self.filled.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
