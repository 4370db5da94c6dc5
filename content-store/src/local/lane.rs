//! The calls on one ingest: one after the other on a blocking thread, and hashing ahead while there is none.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use corten_types::{Error, Result};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{Announcer, Hasher};

/// From so many announced bytes on it pays to wake a thread. Calls wake one in any case.
const WAKING_BYTES: usize = 128 << 10;

/// The most announced bytes that are kept alive: those of the largest message of the wire and more. Later ones are hashed when
/// they are written.
const ANNOUNCED_BYTES: usize = 32 << 20;

type Call = Box<dyn FnOnce() + Send>;

/// Where the calls on one ingest are done. A thread is taken when there is something to do, and given back when there is not.
#[derive(Clone)]
pub(super) struct Lane(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Only the thread that works touches it.
    ahead: Mutex<Ahead>,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    /// What was announced and is not hashed yet.
    announced: VecDeque<Bytes>,
    announced_bytes: usize,
    /// The same and what is hashed, until it is written or thrown away.
    kept_bytes: usize,
    /// Something was not kept: what is announced now does not follow what was announced before.
    has_gap: bool,
    is_worked_on: bool,
    is_closed: bool,
}

/// What was hashed before it was written.
struct Ahead {
    /// The hash of what is written.
    base: Hasher,
    /// The pieces that probably follow, each with the hash of everything up to its end.
    hashed: VecDeque<(Bytes, Hasher)>,
}

/// How the hash of pieces that are written goes on.
#[derive(Clone)]
pub(super) struct Resumption {
    /// The hash with the first pieces.
    pub(super) hasher: Hasher,
    /// How many these are.
    pub(super) hashed_len: usize,
    /// Whether any were announced.
    pub(super) was_announced: bool,
}

impl Lane {
    /// For an ingest whose bytes have this hash.
    pub(super) fn new(hasher: &Hasher) -> Self {
        let ahead = Ahead { base: hasher.clone(), hashed: VecDeque::new() };
        Self(Arc::new(Shared { queue: Mutex::default(), ahead: Mutex::new(ahead) }))
    }

    /// Runs `action` where it may block, after those that were begun before. It runs to its end also if the caller goes away.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        action: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (runtime, (sender, receiver)) = (Handle::current(), oneshot::channel());
        let call = move || {
            let result: std::result::Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(action));
            // Perhaps nobody waits any more.
            let _ = sender.send(result);
        };
        self.begin(Box::new(call), &runtime);
        match receiver.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Error::unavailable("the content store is shutting down")),
        }
    }

    /// Forgets what was announced, and takes no more. Calls that were begun go on.
    pub(super) fn close(&self) {
        let mut queue = lock(&self.0.queue);
        queue.is_closed = true;
        queue.forget();
    }

    /// What is known already of the hash of `pieces`, which follow what has the hash `written`. For calls.
    ///
    /// Pieces count as announced if they lie where the announced ones lie: these were kept alive, so they are the same. If they
    /// are others, everything that was announced is forgotten.
    pub(super) fn resume(&self, written: &Hasher, pieces: &[Bytes]) -> Resumption {
        let (mut ahead, mut queue) = (lock(&self.0.ahead), lock(&self.0.queue));
        let unknown = Resumption { hasher: written.clone(), hashed_len: 0, was_announced: false };
        let mut known = unknown.clone();
        for piece in pieces {
            let next = ahead.hashed.front().map(|(next, _)| next).or(queue.announced.front());
            match next {
                Some(next) if is_same(next, piece) => {}
                Some(_) => {
                    ahead.hashed.clear();
                    queue.forget();
                    return unknown;
                }
                None => break,
            }
            known.was_announced = true;
            // Fewer are counted once the lane was closed.
            queue.kept_bytes = queue.kept_bytes.saturating_sub(piece.len());
            if let Some((_, hasher)) = ahead.hashed.pop_front() {
                known.hasher = hasher;
                known.hashed_len += 1;
            } else {
                queue.announced.pop_front();
                queue.announced_bytes -= piece.len();
            }
        }
        queue.has_gap &= queue.kept_bytes > 0;
        known
    }

    /// What is written has this hash now, after the pieces of [`resume`](Self::resume). For calls.
    pub(super) fn go_on(&self, written: &Hasher) {
        lock(&self.0.ahead).base = written.clone();
    }

    /// What is written has this hash now, and nothing that was announced follows it. For calls.
    pub(super) fn begin_anew(&self, written: &Hasher) {
        let mut ahead = lock(&self.0.ahead);
        ahead.base = written.clone();
        ahead.hashed.clear();
        lock(&self.0.queue).forget();
    }

    fn begin(&self, call: Call, runtime: &Handle) {
        let mut queue = lock(&self.0.queue);
        queue.calls.push_back(call);
        self.work(queue, runtime);
    }

    /// Sees to it that a thread works on the queue.
    fn work(&self, mut queue: MutexGuard<'_, Queue>, runtime: &Handle) {
        if !std::mem::replace(&mut queue.is_worked_on, true) {
            drop(queue);
            let work = Work { lane: Arc::clone(&self.0), is_done: false };
            drop(runtime.spawn_blocking(move || work.run()));
        }
    }
}

impl Announcer for Lane {
    fn announce(&self, bytes: Bytes) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut queue = lock(&self.0.queue);
        if bytes.is_empty() || queue.is_closed {
            return;
        }
        queue.has_gap |= queue.kept_bytes + bytes.len() > ANNOUNCED_BYTES;
        if queue.has_gap {
            return;
        }
        queue.kept_bytes += bytes.len();
        queue.announced_bytes += bytes.len();
        queue.announced.push_back(bytes);
        if queue.announced_bytes >= WAKING_BYTES {
            self.work(queue, &runtime);
        }
    }
}

impl Queue {
    fn forget(&mut self) {
        self.announced.clear();
        self.announced_bytes = 0;
        self.kept_bytes = 0;
        self.has_gap = false;
    }
}

/// One thread's work on a lane.
struct Work {
    lane: Arc<Shared>,
    is_done: bool,
}

enum Step {
    Call(Call),
    Hash(Bytes),
}

impl Work {
    fn run(mut self) {
        while let Some(step) = self.next() {
            match step {
                Step::Call(call) => call(),
                Step::Hash(piece) => lock(&self.lane.ahead).hash(piece),
            }
        }
        self.is_done = true;
    }

    /// Calls come first: somebody waits for them.
    fn next(&self) -> Option<Step> {
        let mut queue = lock(&self.lane.queue);
        if let Some(call) = queue.calls.pop_front() {
            return Some(Step::Call(call));
        }
        if let Some(piece) = queue.announced.pop_front() {
            queue.announced_bytes -= piece.len();
            return Some(Step::Hash(piece));
        }
        queue.is_worked_on = false;
        None
    }
}

impl Drop for Work {
    /// If the runtime ends before it had a thread for this, the calls are given up: who waits is told so.
    fn drop(&mut self) {
        if !self.is_done {
            let mut queue = lock(&self.lane.queue);
            queue.is_worked_on = false;
            queue.forget();
            let calls = std::mem::take(&mut queue.calls);
            drop(queue);
            drop(calls);
        }
    }
}

impl Ahead {
    fn hash(&mut self, piece: Bytes) {
        let mut hasher = self.hashed.back().map_or(&self.base, |(_, hasher)| hasher).clone();
        hasher.update(&piece);
        self.hashed.push_back((piece, hasher));
    }
}

/// Whether they are the same bytes in memory.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
