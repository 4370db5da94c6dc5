//! Locks on keys and on digests. They live in memory: a store has one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use corten_types::{Digest, Error, Result};

/// The ingests that may be open at once. Each has a file open.
pub const MAX_OPEN_INGESTS: usize = 4096;

/// The keys that are held, and since when.
#[derive(Debug, Default)]
pub(crate) struct KeyLocks(Mutex<HashMap<String, Instant>>);

/// Holds a key until it is dropped.
#[derive(Debug)]
pub(crate) struct KeyGuard {
    locks: Arc<KeyLocks>,
    key: String,
}

impl KeyLocks {
    /// Takes `key`, or says at once that it is held (row T09): clients come back for `Unavailable`.
    pub(crate) fn take(self: &Arc<Self>, key: &str) -> Result<KeyGuard> {
        let mut held = self.lock();
        if let Some(since) = held.get(key) {
            return Err(Error::unavailable(format!("ref {key} locked for {:?}", since.elapsed())));
        }
        if held.len() >= MAX_OPEN_INGESTS {
            return Err(Error::resource_exhausted(format!(
                "ref {key} cannot be opened: {MAX_OPEN_INGESTS} ingests are open already"
            )));
        }
        held.insert(key.to_owned(), Instant::now());
        Ok(KeyGuard { locks: Arc::clone(self), key: key.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyGuard {
    /// The key that is held.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.key);
    }
}

/// One lock a digest, for opening with an expected digest, committing and unlinking. It is held over the sync of the folder
/// that this very digest was renamed into or unlinked from, so that nobody is told of a blob that a power cut would take.
#[derive(Debug, Default)]
pub(crate) struct DigestLocks(Mutex<HashMap<Digest, Arc<Mutex<()>>>>);

impl DigestLocks {
    /// Runs `action` while nobody else does anything with `digest`. It blocks.
    pub(crate) fn hold<T>(&self, digest: &Digest, action: impl FnOnce() -> T) -> T {
        let lock = Arc::clone(self.lock().entry(digest.clone()).or_default());
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let value = action();
        drop(guard);
        let mut locks = self.lock();
        // Two: the table's and ours. Others get theirs under the table's lock, which we have.
        if Arc::strong_count(&lock) == 2 {
            locks.remove(digest);
        }
        value
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests;
