//! Where it is written down which activations there are.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use corten_filter::{Fields, Filters};
use corten_types::{Error, Labels, Namespace, Result};

/// Whose activations are meant, and which lease keeps new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Names are taken in one namespace only.
    pub namespace: Namespace,
    /// The lease that a new activation joins (M07).
    pub lease: Option<String>,
}

impl Scope {
    /// The namespace, without a lease.
    #[must_use]
    pub fn of(namespace: Namespace) -> Self {
        Self { namespace, lease: None }
    }
}

/// An activation that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number, which no other activation ever had.
    pub number: u64,
    /// The number of an activation of that name that was begun and never finished.
    pub stale: Option<u64>,
}

/// An activation that is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// What [`Ledger::finish`] was given.
    pub data: Bytes,
}

/// Looks finished activations up.
#[async_trait]
pub trait ReadLedger: Send + Sync {
    /// The activation called `name`.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    async fn get(&self, scope: &Scope, name: &str) -> Result<Entry>;

    /// Up to `limit` that match, in the order of their names, beginning after `after`.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    async fn list(
        &self,
        scope: &Scope,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>>;
}

/// Writes down what there is, before and after it is made.
#[async_trait]
pub trait Ledger: ReadLedger {
    /// Takes the name. One that was begun and never finished gives way; [`Activations`](crate::Activations) sees to it that
    /// only one is made of a name at a time.
    ///
    /// # Errors
    /// `AlreadyExists`: there is a finished one. `NotFound`: the lease of the scope does not exist.
    async fn begin(&self, scope: &Scope, name: &str, labels: Labels) -> Result<Begun>;

    /// Keeps `data` with the name.
    ///
    /// # Errors
    /// `NotFound`: the name was let go of meanwhile. Whatever was mounted must be undone.
    async fn finish(&self, scope: &Scope, name: &str, number: u64, data: Bytes) -> Result<()>;

    /// Lets go of the name, if it has `number` where one is given, and says which number it had.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    async fn end(&self, scope: &Scope, name: &str, number: Option<u64>) -> Result<u64>;
}

/// A ledger that ends with the program. What was mounted is then found by [`Workspace::found`](crate::Workspace::found).
#[derive(Debug, Default)]
pub struct MemoryLedger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    rows: BTreeMap<(Namespace, String), Row>,
}

#[derive(Debug)]
struct Row {
    number: u64,
    labels: Labels,
    data: Option<Bytes>,
}

impl MemoryLedger {
    /// An empty one that gives numbers greater than `number`.
    #[must_use]
    pub fn after(number: u64) -> Self {
        Self { state: Mutex::new(State { last: number, rows: BTreeMap::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("mount {name:?}"))
}

fn key(scope: &Scope, name: &str) -> (Namespace, String) {
    (scope.namespace.clone(), name.to_owned())
}

fn entry(name: &str, row: &Row) -> Option<Entry> {
    let data = row.data.clone()?;
    Some(Entry { name: name.to_owned(), labels: row.labels.clone(), data })
}

impl Fields for Entry {
    fn field(&self, path: &[&str]) -> Option<std::borrow::Cow<'_, str>> {
        match path {
            ["name"] => Some(self.name.as_str().into()),
            ["labels", key @ ..] => self.labels.get(&key.join(".")).map(|value| value.as_str().into()),
            _ => None,
        }
    }
}

#[async_trait]
impl ReadLedger for MemoryLedger {
    async fn get(&self, scope: &Scope, name: &str) -> Result<Entry> {
        let found = self.state().rows.get(&key(scope, name)).and_then(|row| entry(name, row));
        found.ok_or_else(|| missing(name))
    }

    async fn list(
        &self,
        scope: &Scope,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let state = self.state();
        let ours = state.rows.iter().filter(|((namespace, name), _)| {
            *namespace == scope.namespace && after.is_none_or(|after| name.as_str() > after)
        });
        let entries = ours.filter_map(|((_, name), row)| entry(name, row));
        Ok(entries.filter(|entry| filters.matches(entry)).take(limit).collect())
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn begin(&self, scope: &Scope, name: &str, labels: Labels) -> Result<Begun> {
        let mut state = self.state();
        let key = key(scope, name);
        let stale = match state.rows.get(&key) {
            Some(Row { data: Some(_), .. }) => return Err(Error::already_exists(format!("mount {name:?}"))),
            other => other.map(|row| row.number),
        };
        state.last += 1;
        let number = state.last;
        state.rows.insert(key, Row { number, labels, data: None });
        Ok(Begun { number, stale })
    }

    async fn finish(&self, scope: &Scope, name: &str, number: u64, data: Bytes) -> Result<()> {
        let mut state = self.state();
        let row = state.rows.get_mut(&key(scope, name)).filter(|row| row.number == number);
        row.ok_or_else(|| missing(name))?.data = Some(data);
        Ok(())
    }

    async fn end(&self, scope: &Scope, name: &str, number: Option<u64>) -> Result<u64> {
        let mut state = self.state();
        let key = key(scope, name);
        let fits = |row: &Row| number.is_none_or(|number| row.number == number);
        if !state.rows.get(&key).is_some_and(fits) {
            return Err(missing(name));
        }
        state.rows.remove(&key).map(|row| row.number).ok_or_else(|| missing(name))
    }
}
