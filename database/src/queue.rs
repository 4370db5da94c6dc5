//! The bounded queue in front of the writer.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use crate::job::Job;

pub(crate) enum PushError {
    Full(Box<dyn Job>),
    Closed(Box<dyn Job>),
}

pub(crate) struct Queue {
    limit: usize,
    state: Mutex<State>,
    /// The writer waits for operations.
    filled: Condvar,
    /// Blocking callers wait for room.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Box<dyn Job>>,
    closed: bool,
    /// Async callers that wait for room.
    wakers: Vec<Waker>,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default(), filled: Condvar::new(), drained: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the job if there is room; else wakes `waker` when there may be.
    pub(crate) fn try_push(&self, job: Box<dyn Job>, waker: Option<&Waker>) -> Result<(), PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed(job));
        }
        if state.jobs.len() >= self.limit {
            if let Some(waker) = waker
                && !state.wakers.iter().any(|known| known.will_wake(waker))
            {
                state.wakers.push(waker.clone());
            }
            return Err(PushError::Full(job));
        }
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for room. Gives the job back if the queue was closed.
    pub(crate) fn push(&self, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let mut state = self.lock();
        while !state.closed && state.jobs.len() >= self.limit {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until there is something; says whether there is, or the queue is closed and empty.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return false;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Whether it is open and nothing is in it.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        !state.closed && state.jobs.is_empty()
    }

    /// Takes a batch of at most `limit`.
    ///
    /// If there are fewer than `expected`, it waits up to `patience` for the rest: callers that were just answered come
    /// back at once, and to sync for all of them together is worth a fraction of a sync.
    pub(crate) fn take(&self, limit: usize, expected: usize, patience: Duration) -> Vec<Box<dyn Job>> {
        let mut state = self.lock();
        let deadline = Instant::now() + patience;
        while state.jobs.len() < expected.min(limit) && !state.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                break;
            };
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let length = state.jobs.len().min(limit);
        let batch = state.jobs.drain(..length).collect();
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.drained.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        batch
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Lets nobody in any more; who is in is served.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.wakers)
        };
        self.filled.notify_all();
        self.drained.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}
