//! What waits for one subscriber.
//!
//! The bytes that wait are limited. A queue that would pass its limit is *broken*: from then on only exits of tasks are
//! taken, for which other events make room, and the subscriber gets what is left and then an error.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use corten_types::Error;
use tokio::sync::Notify;

use crate::Envelope;

#[derive(Debug)]
pub(crate) struct Queue {
    limit_bytes: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Envelope>>,
    waiting_bytes: usize,
    lost_events: u64,
    lost_exits: u64,
    closed: bool,
}

/// What a subscriber takes out of its queue.
pub(crate) enum Taken {
    Event(Arc<Envelope>),
    Nothing,
    Overflowed(Error),
    Closed,
}

impl Queue {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::default(), changed: Notify::new() }
    }

    /// Adds an event. Never waits for the subscriber.
    pub(crate) fn push(&self, envelope: &Arc<Envelope>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.push(envelope, self.limit_bytes);
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn take(&self) -> Taken {
        let mut state = self.lock();
        if let Some(envelope) = state.waiting.pop_front() {
            state.waiting_bytes -= envelope.size_bytes();
            return Taken::Event(envelope);
        }
        if state.is_broken() {
            state.closed = true;
            let State { lost_events, lost_exits, .. } = *state;
            state.lost_events = 0;
            state.lost_exits = 0;
            return Taken::Overflowed(Error::resource_exhausted(format!(
                "events came faster than they were read and more than {} bytes of them waited: {lost_events} were lost, \
                 of which {lost_exits} were exits of tasks; subscribe again and ask for the state of every task",
                self.limit_bytes
            )));
        }
        if state.closed { Taken::Closed } else { Taken::Nothing }
    }

    /// Waits until something may have changed since the last [`take`](Self::take).
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes no more events; those that wait can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_broken(&self) -> bool {
        self.lost_events > 0
    }

    fn push(&mut self, envelope: &Arc<Envelope>, limit_bytes: usize) {
        let size_bytes = envelope.size_bytes();
        let is_exit = envelope.topic.is_task_exit();
        if is_exit && self.waiting_bytes + size_bytes > limit_bytes {
            self.give_up_all_but_exits();
        }
        let fits = self.waiting_bytes + size_bytes <= limit_bytes;
        if fits && (is_exit || !self.is_broken()) {
            self.waiting.push_back(Arc::clone(envelope));
            self.waiting_bytes += size_bytes;
        } else {
            self.lost_events += 1;
            self.lost_exits += u64::from(is_exit);
        }
    }

    /// Makes room. It goes through the queue, but finds something only once: a broken queue takes nothing but exits.
    fn give_up_all_but_exits(&mut self) {
        if self.lost_exits > 0 {
            return;
        }
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.topic.is_task_exit());
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.size_bytes()).sum();
        self.lost_events += (before - self.waiting.len()) as u64;
    }
}
