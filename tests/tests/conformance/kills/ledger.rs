//! What a client was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// What each thing may be after a crash: one value if the last change was acknowledged, more if one was only asked for.
/// `None` is absent.
pub(crate) struct Ledger<V> {
    entries: BTreeMap<String, Vec<Option<V>>>,
    /// What nothing refers to any more: it may go at any time.
    released: BTreeSet<String>,
    /// How many changes were acknowledged.
    pub(crate) acknowledged: u64,
}

impl<V: Clone + Debug + PartialEq> Ledger<V> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), released: BTreeSet::new(), acknowledged: 0 }
    }

    /// It is asked to become `value`: from now on it may be.
    pub(crate) fn attempt(&mut self, key: &str, value: Option<V>) {
        self.entries.entry(key.to_owned()).or_insert_with(|| vec![None]).push(value);
    }

    /// The last attempt was acknowledged: it is nothing else.
    pub(crate) fn acknowledged(&mut self, key: &str) {
        let value = self.entries.remove(key).and_then(|mut values| values.pop()).flatten();
        self.set(key, value);
        self.acknowledged += 1;
    }

    fn set(&mut self, key: &str, value: Option<V>) {
        if value.is_some() {
            self.entries.insert(key.to_owned(), vec![value]);
        } else {
            self.entries.remove(key);
            self.released.remove(key);
        }
    }

    /// Nothing keeps it from now on.
    pub(crate) fn release(&mut self, key: &str) {
        self.released.insert(key.to_owned());
    }

    /// What it is, where that is certain.
    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        let certain = !self.released.contains(key);
        self.entries.get(key).filter(|values| certain && values.len() == 1)?.first()?.as_ref()
    }

    /// What is there for certain.
    pub(crate) fn all(&self) -> Vec<(String, V)> {
        self.entries.keys().filter_map(|key| Some((key.clone(), self.get(key)?.clone()))).collect()
    }

    /// Compares with what is there, which is certain then.
    pub(crate) fn settle(&mut self, what: &str, mut seen: BTreeMap<String, V>) {
        let known: Vec<_> = std::mem::take(&mut self.entries).into_iter().collect();
        for (key, mut allowed) in known {
            if self.released.contains(&key) {
                allowed.push(None);
            }
            let found = seen.remove(&key);
            assert!(allowed.contains(&found), "{what} {key} is {found:?}, but may be one of {allowed:?}");
            self.set(&key, found);
        }
        assert!(seen.is_empty(), "nobody made these or they were removed: {what} {seen:?}");
    }
}
