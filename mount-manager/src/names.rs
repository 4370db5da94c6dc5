//! One at a time for each name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use corten_types::Namespace;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

type Key = (Namespace, String);

/// Locks by namespace and name. One that nobody holds or waits for takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Names {
    turns: Mutex<HashMap<Key, Arc<Turn<()>>>>,
}

/// The right to work on a name.
pub(crate) struct Held {
    names: Arc<Names>,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Names {
    pub(crate) async fn hold(self: &Arc<Self>, namespace: &Namespace, name: &str) -> Held {
        let key = (namespace.clone(), name.to_owned());
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(key.clone()).or_default())
        };
        // Made before the wait: a caller who gives up waiting tidies up too.
        let mut held = Held { names: Arc::clone(self), key, guard: None };
        held.guard = Some(turn.lock_owned().await);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.names.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // New users take their share under the same lock.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_by_one_at_a_time_and_then_forgotten() {
        let names = Arc::new(Names::default());
        let namespace: Namespace = "ns".parse().expect("a namespace");
        let held = names.hold(&namespace, "m").await;
        let other = names.hold(&namespace, "n").await;
        let waiting = tokio::spawn({
            let (names, namespace) = (Arc::clone(&names), namespace.clone());
            async move { drop(names.hold(&namespace, "m").await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.expect("it gets its turn");
        drop(other);
        assert!(names.turns.lock().expect("nobody panicked").is_empty());
    }
}
