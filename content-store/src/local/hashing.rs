//! Hashing beside writing: while one thread writes bytes, another may hash them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::Hasher;

/// From so many bytes on it pays to wake another thread.
const HASHED_APART_BYTES: usize = 64 << 10;

/// A hash to which bytes are being added.
///
/// Whoever has the lock does what is left: another thread, if one was free in time, or else the one that needs the result. So
/// a pool whose threads are all busy delays nobody for ever.
pub(crate) struct Hashing(Arc<Mutex<Job>>);

struct Job {
    hasher: Hasher,
    left: Vec<Bytes>,
}

impl Hashing {
    /// Begins to add `pieces` to what `hasher` has. `hasher` itself stays as it is, in case the bytes cannot be written.
    pub(crate) fn begin(hasher: &Hasher, pieces: &[Bytes]) -> Self {
        let job = Arc::new(Mutex::new(Job { hasher: hasher.clone(), left: pieces.to_vec() }));
        if pieces.iter().map(Bytes::len).sum::<usize>() >= HASHED_APART_BYTES
            && let Ok(runtime) = Handle::try_current()
        {
            let job = Arc::clone(&job);
            // Nobody waits for this thread; if it never comes, `finish` does its work.
            drop(runtime.spawn_blocking(move || lock(&job).work()));
        }
        Self(job)
    }

    /// Adds `pieces` to what `hasher` has, without any other thread.
    pub(crate) fn begin_here(hasher: Hasher, pieces: &[Bytes]) -> Self {
        let mut job = Job { hasher, left: pieces.to_vec() };
        job.work();
        Self(Arc::new(Mutex::new(job)))
    }

    /// The hash with all the bytes. It blocks until they are hashed.
    pub(crate) fn finish(self) -> Hasher {
        let mut job = lock(&self.0);
        job.work();
        job.hasher.clone()
    }
}

impl Job {
    fn work(&mut self) {
        for piece in std::mem::take(&mut self.left) {
            self.hasher.update(&piece);
        }
    }
}

fn lock(job: &Mutex<Job>) -> MutexGuard<'_, Job> {
    job.lock().unwrap_or_else(PoisonError::into_inner)
}
