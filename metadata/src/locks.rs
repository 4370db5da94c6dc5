//! One lock a key, for as long as somebody holds it or waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OwnedMutexGuard;

/// Locks by key. They may be held across awaits. Who holds one of a kind waits for no other of it, unless all are taken in
/// the order of their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

impl KeyLocks {
    /// Waits for the lock of `key`.
    pub(crate) async fn lock(&self, key: &str) -> KeyGuard {
        let lock = Arc::clone(self.map().entry(key.to_owned()).or_default());
        let place = Place { locks: self.clone(), key: key.to_owned() };
        let guard = lock.lock_owned().await;
        KeyGuard { guard: Some(guard), place }
    }

    /// Takes the lock of `key` if nobody holds it.
    pub(crate) fn try_lock(&self, key: &str) -> Option<KeyGuard> {
        let lock = Arc::clone(self.map().entry(key.to_owned()).or_default());
        let place = Place { locks: self.clone(), key: key.to_owned() };
        let guard = lock.try_lock_owned().ok()?;
        Some(KeyGuard { guard: Some(guard), place })
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.map().len()
    }
}

/// Holds the lock of one key.
#[derive(Debug)]
pub(crate) struct KeyGuard {
    guard: Option<OwnedMutexGuard<()>>,
    place: Place,
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.guard = None;
        tracing::trace!(key = %self.place.key, "lock given back");
    }
}

/// Removes the key when nobody else holds it or waits for it; also when waiting was given up.
#[derive(Debug)]
struct Place {
    locks: KeyLocks,
    key: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.locks.map();
        if map.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(&self.key);
        }
    }
}

/// Keys that are held by one at a time; a second one is refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldKeys(Arc<Mutex<HashMap<String, Instant>>>);

impl HeldKeys {
    /// Holds `key`, unless it is held: then for how long.
    pub(crate) fn hold(&self, key: String) -> Result<HeldKey, Duration> {
        let mut held = self.map();
        if let Some(since) = held.get(&key) {
            return Err(since.elapsed());
        }
        held.insert(key.clone(), Instant::now());
        Ok(HeldKey { keys: self.clone(), key })
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds one key until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldKey {
    keys: HeldKeys,
    key: String,
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        self.keys.map().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_waited_for_and_forgotten_when_nobody_needs_it() {
        let locks = KeyLocks::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { drop(locks.lock("a").await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(other);
        assert_eq!(locks.len(), 0);
    }

    #[tokio::test]
    async fn a_lock_that_is_held_is_not_taken_and_not_forgotten() {
        let locks = KeyLocks::default();
        let first = locks.try_lock("a").unwrap();
        assert!(locks.try_lock("a").is_none());
        assert_eq!(locks.len(), 1);
        drop(first);
        assert_eq!(locks.len(), 0);
        assert!(locks.try_lock("a").is_some());
    }

    #[tokio::test]
    async fn giving_up_a_wait_leaves_the_lock_usable() {
        let locks = KeyLocks::default();
        let first = locks.lock("a").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { drop(locks.lock("a").await) }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        let _ = waiting.await;
        drop(first);
        assert_eq!(locks.len(), 0);
        drop(locks.lock("a").await);
    }

    #[test]
    fn a_held_key_is_refused_until_it_is_dropped() {
        let keys = HeldKeys::default();
        let held = keys.hold("a".to_owned());
        assert!(held.is_ok() && keys.hold("a".to_owned()).is_err());
        drop(held);
        assert!(keys.hold("a".to_owned()).is_ok());
    }
}
