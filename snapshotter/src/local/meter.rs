//! What active snapshots take: measured in the background, so that no request walks through a tree.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corten_types::{Error, ErrorKind, Result};

use crate::Usage;
use crate::usage::survey_with;

/// How many snapshots may wait to be measured.
pub(super) const QUEUE_LIMIT: usize = 256;

/// Of how many snapshots it is remembered what they take.
pub(super) const KNOWN_LIMIT: usize = 4096;

/// A tree that is measured in this time is measured for every request.
const CHEAP: Duration = Duration::from_millis(20);

/// Other trees are measured again after this many times as long as it took: a tenth of one core at the most.
const REST_FACTOR: u32 = 10;

/// How long a request waits for the first answer, and for one that was cheap before.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// How long a request waits for a better answer than the one that is known.
const FRESH_WAIT: Duration = Duration::from_millis(100);

/// What an active snapshot takes, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasuredUsage {
    /// What it takes, without its parents.
    pub usage: Usage,
    /// How long ago that was so.
    pub age: Duration,
    /// Whether everything was counted. If not, the snapshot is so large that its first measurement goes on, and it takes
    /// at least as much.
    pub is_whole: bool,
}

/// Measures active snapshots on one thread, which is there while something waits.
#[derive(Debug, Default)]
pub(super) struct Meter {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    measured: Condvar,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<u64, Known>,
    queue: VecDeque<(u64, PathBuf)>,
    works: bool,
    is_stopped: bool,
    /// Until then only first answers and cheap ones are looked for.
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    /// How often it was measured.
    rounds: u64,
    /// Whether it waits to be measured, or is measured.
    is_awaited: bool,
    /// The last answer, also one that is not whole yet.
    answer: Option<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    outcome: Result<Usage, (ErrorKind, String)>,
    is_whole: bool,
    at: Instant,
    took: Duration,
}

impl Answer {
    fn told(&self) -> Result<MeasuredUsage> {
        let (age, is_whole) = (self.at.elapsed(), self.is_whole);
        match &self.outcome {
            Ok(usage) => Ok(MeasuredUsage { usage: *usage, age, is_whole }),
            Err((kind, message)) => Err(Error::new(*kind, message.clone())),
        }
    }

    fn was_cheap(&self) -> bool {
        self.is_whole && self.took <= CHEAP
    }
}

impl Meter {
    /// What `folder`, which belongs to the active snapshot `id`, takes. It waits for a fresh answer for a while, and
    /// gives the last one after that.
    ///
    /// # Errors
    /// `ResourceExhausted`: too many snapshots wait to be measured for the first time. Others: those of the disk.
    pub(super) fn ask(&self, id: u64, folder: PathBuf) -> Result<MeasuredUsage> {
        let mut state = self.shared.lock();
        let (rounds, patience) = {
            let state = &mut *state;
            state.make_room(id);
            let known = state.known.entry(id).or_insert_with(Known::new);
            let is_due = known.is_due(state.rests_until);
            if is_due && state.queue.len() >= QUEUE_LIMIT && known.answer.is_none() {
                state.known.remove(&id);
                return Err(Error::resource_exhausted(format!(
                    "{QUEUE_LIMIT} snapshots wait to be measured; ask again later"
                )));
            }
            if is_due && state.queue.len() < QUEUE_LIMIT {
                known.is_awaited = true;
                state.queue.push_back((id, folder));
            }
            (known.rounds, known.patience())
        };
        self.start(&mut state)?;
        let deadline = Instant::now() + patience;
        loop {
            let Some(known) = state.known.get(&id) else {
                return Err(Error::not_found("the snapshot went while it was measured"));
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if known.rounds > rounds || !known.is_awaited || left.is_zero() {
                let waiting = || Error::unavailable("the snapshot is still being measured; ask again");
                return known.answer.as_ref().ok_or_else(waiting)?.told();
            }
            state = self.shared.measured.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The snapshot is not active any more.
    pub(super) fn forget(&self, id: u64) {
        self.shared.lock().known.remove(&id);
    }

    fn start(&self, state: &mut State) -> Result<()> {
        if state.works || state.queue.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let worker = std::thread::Builder::new()
            .name("snapshot-usage".to_owned())
            .spawn(move || shared.work())
            .map_err(|error| Error::io("cannot start a thread to measure snapshots", error))?;
        state.works = true;
        // The one before it has nothing left to do.
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
        Ok(())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            // It panicked if it cannot be joined, and there is nothing to be set right.
            let _ = worker.join();
        }
    }
}

impl Known {
    fn new() -> Self {
        Self { rounds: 0, is_awaited: false, answer: None }
    }

    fn is_due(&self, rests_until: Option<Instant>) -> bool {
        if self.is_awaited {
            return false;
        }
        let Some(answer) = &self.answer else { return true };
        let is_rested = rests_until.is_none_or(|until| Instant::now() >= until);
        answer.was_cheap() || is_rested && answer.at.elapsed() >= answer.took * REST_FACTOR
    }

    fn patience(&self) -> Duration {
        match &self.answer {
            _ if !self.is_awaited => Duration::ZERO,
            Some(answer) if !answer.was_cheap() => FRESH_WAIT,
            _ => FIRST_WAIT,
        }
    }
}

impl State {
    /// Forgets the oldest answer if there are too many.
    fn make_room(&mut self, id: u64) {
        if self.known.len() < KNOWN_LIMIT || self.known.contains_key(&id) {
            return;
        }
        let oldest = self
            .known
            .iter()
            .filter(|(_, known)| !known.is_awaited)
            .min_by_key(|(_, known)| known.answer.as_ref().map(|answer| answer.at))
            .map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let next = if state.is_stopped { None } else { state.queue.pop_front() };
            let Some((id, folder)) = next else {
                state.works = false;
                return;
            };
            drop(state);
            self.measure(id, &folder);
        }
    }

    fn measure(&self, id: u64, folder: &std::path::Path) {
        let started = Instant::now();
        let outcome = survey_with(folder, |so_far| {
            let mut state = self.lock();
            let is_stopped = state.is_stopped;
            let Some(known) = state.known.get_mut(&id).filter(|_| !is_stopped) else {
                return ControlFlow::Break(());
            };
            if known.rounds == 0 {
                let at = Instant::now();
                known.answer = Some(Answer { outcome: Ok(*so_far), is_whole: false, at, took: at - started });
            }
            ControlFlow::Continue(())
        });
        let at = Instant::now();
        let took = at - started;
        let mut state = self.lock();
        if took > CHEAP {
            state.rests_until = Some(at + took * (REST_FACTOR - 1));
        }
        if let Some(known) = state.known.get_mut(&id) {
            let outcome = match outcome {
                Ok(survey) => Ok(survey.usage),
                Err(error) => Err((error.kind(), error.chain())),
            };
            known.rounds += 1;
            known.is_awaited = false;
            known.answer = Some(Answer { outcome, is_whole: true, at, took });
        }
        self.measured.notify_all();
    }
}

#[cfg(test)]
mod tests;
