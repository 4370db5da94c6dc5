//! What a client was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

/// Says how far the recording of a disk is; without a recording there is nothing to go back to.
pub(crate) type Clock = Option<Arc<dyn Fn() -> u64 + Send + Sync>>;

/// What each thing may be after a crash: one value if the last change was acknowledged, more if one was only asked for.
/// `None` is absent.
pub(crate) struct Ledger<V> {
    entries: BTreeMap<String, Vec<Option<V>>>,
    /// What nothing refers to any more: it may go at any time.
    released: BTreeSet<String>,
    /// How many changes were acknowledged.
    pub(crate) acknowledged: u64,
    clock: Clock,
    /// Each change with the position of the recording: before it was asked for, and after it was acknowledged.
    history: Vec<(u64, Change<V>)>,
}

#[derive(Clone)]
enum Change<V> {
    Attempt(String, Option<V>),
    Acknowledged(String),
    Release(String),
    Seen(String, Option<V>),
}

impl<V: Clone + Debug + PartialEq> Ledger<V> {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            entries: BTreeMap::new(),
            released: BTreeSet::new(),
            acknowledged: 0,
            clock: clock.clone(),
            history: Vec::new(),
        }
    }

    /// The ledger as it was at this position of the recording.
    pub(crate) fn at(&self, position: u64) -> Self {
        let mut then = Self::new(&None);
        let changes = self.history.iter().take_while(|(asked_at, _)| *asked_at <= position);
        changes.for_each(|(_, change)| then.apply(change.clone()));
        then
    }

    /// It is asked to become `value`: from now on it may be.
    pub(crate) fn attempt(&mut self, key: &str, value: Option<V>) {
        self.change(Change::Attempt(key.to_owned(), value));
    }

    /// The last attempt was acknowledged: it is nothing else.
    pub(crate) fn acknowledged(&mut self, key: &str) {
        self.change(Change::Acknowledged(key.to_owned()));
    }

    /// Nothing keeps it from now on.
    pub(crate) fn release(&mut self, key: &str) {
        self.change(Change::Release(key.to_owned()));
    }

    /// Asked for and acknowledged.
    pub(crate) fn gone(&mut self, key: &str) {
        self.attempt(key, None);
        self.acknowledged(key);
    }

    fn change(&mut self, change: Change<V>) {
        if let Some(clock) = &self.clock {
            self.history.push((clock(), change.clone()));
        }
        self.apply(change);
    }

    fn apply(&mut self, change: Change<V>) {
        match change {
            Change::Attempt(key, value) => {
                self.entries.entry(key).or_insert_with(|| vec![None]).push(value);
            }
            Change::Acknowledged(key) => {
                let value = self.entries.remove(&key).and_then(|mut values| values.pop()).flatten();
                self.set(key, value);
                self.acknowledged += 1;
            }
            Change::Release(key) => drop(self.released.insert(key)),
            Change::Seen(key, value) => self.set(key, value),
        }
    }

    fn set(&mut self, key: String, value: Option<V>) {
        if value.is_some() {
            self.entries.insert(key, vec![value]);
        } else {
            self.released.remove(&key);
            self.entries.remove(&key);
        }
    }

    /// What it is, where that is certain.
    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        let certain = !self.released.contains(key);
        self.entries.get(key).filter(|values| certain && values.len() == 1)?.first()?.as_ref()
    }

    /// Whether something was asked for and not acknowledged.
    pub(crate) fn is_open(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|values| values.len() > 1)
    }

    /// The value that it has, or may have.
    pub(crate) fn possible(&self, key: &str) -> Option<&V> {
        self.entries.get(key)?.iter().flatten().next_back()
    }

    /// What was there when it was last compared, and what was made since, also if nothing keeps it.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&String, &V)> {
        self.entries.iter().filter_map(|(key, values)| Some((key, values.last()?.as_ref()?)))
    }

    /// What is there for certain.
    pub(crate) fn all(&self) -> Vec<(String, V)> {
        self.entries.keys().filter_map(|key| Some((key.clone(), self.get(key)?.clone()))).collect()
    }

    /// After which positions of the recording something was acknowledged.
    pub(crate) fn acknowledged_at(&self) -> Vec<u64> {
        let acknowledged = |change: &Change<V>| matches!(change, Change::Acknowledged(_));
        self.history
            .iter()
            .filter(|(_, change)| acknowledged(change))
            .map(|(position, _)| *position)
            .collect()
    }

    /// Compares with what is there, which is certain then.
    pub(crate) fn settle(&mut self, what: &str, mut seen: BTreeMap<String, V>) {
        let mut known = Vec::new();
        for (key, allowed) in &self.entries {
            let found = seen.remove(key);
            let may_be_gone = self.released.contains(key) && found.is_none();
            assert!(
                may_be_gone || allowed.contains(&found),
                "{what} {key} is {found:?}, but may be one of {allowed:?}"
            );
            known.push((key.clone(), found));
        }
        for (key, found) in known {
            self.change(Change::Seen(key, found));
        }
        assert!(seen.is_empty(), "nobody made these or they were removed: {what} {seen:?}");
    }
}
