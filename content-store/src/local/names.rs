//! The names of blobs, remembered from one page of a listing to the next, so that a listing reads the folders once.

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use corten_types::{Digest, Result};

/// More names than these are not remembered, but read for each page: they would take some 30 MB.
pub(crate) const MAX_REMEMBERED: usize = 256 << 10;

/// Every blob's name while a listing is under way, nothing otherwise.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    /// The folders are being read. These came (`true`) and went since that began.
    Reading(Vec<(Digest, bool)>),
    Known(BTreeSet<Digest>),
}

impl Names {
    /// Up to `count` names in order, beginning after `after`; fewer only at the end, and then everything is forgotten.
    ///
    /// `read` gives every name that is in the folders. It is called at the beginning of a listing, and for a page of which
    /// nothing is remembered; no lock is held meanwhile.
    pub(crate) fn page(
        &self,
        after: Option<&Digest>,
        count: usize,
        read: impl FnOnce() -> Result<Vec<Digest>>,
    ) -> Result<Vec<Digest>> {
        if after.is_some() {
            let mut state = self.lock();
            if let State::Known(names) = &*state {
                let page = cut(names, after, count);
                if page.len() < count {
                    *state = State::Unknown;
                }
                return Ok(page);
            }
        }
        let is_first = self.begin();
        let read = read();
        if !is_first {
            // Another listing reads them too, and remembers them.
            return Ok(cut(&read?.into_iter().collect(), after, count));
        }
        let mut state = self.lock();
        let State::Reading(changes) = std::mem::take(&mut *state) else { return read };
        let mut names: BTreeSet<_> = read?.into_iter().collect();
        changes.into_iter().for_each(|change| note(&mut names, change));
        let page = cut(&names, after, count);
        if page.len() == count && names.len() <= MAX_REMEMBERED {
            *state = State::Known(names);
        }
        Ok(page)
    }

    /// A blob came or went. The caller holds the lock of its digest.
    pub(crate) fn changed(&self, digest: &Digest, exists: bool) {
        match &mut *self.lock() {
            State::Unknown => {}
            State::Reading(changes) => changes.push((digest.clone(), exists)),
            State::Known(names) => note(names, (digest.clone(), exists)),
        }
    }

    /// Whether nobody else is reading the folders: then changes are collected from now on.
    fn begin(&self) -> bool {
        let mut state = self.lock();
        let is_first = !matches!(*state, State::Reading(_));
        if is_first {
            *state = State::Reading(Vec::new());
        }
        is_first
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(names: &mut BTreeSet<Digest>, (digest, exists): (Digest, bool)) {
    if exists {
        names.insert(digest);
    } else {
        names.remove(&digest);
    }
}

fn cut(names: &BTreeSet<Digest>, after: Option<&Digest>, count: usize) -> Vec<Digest> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    names.range::<Digest, _>((from, Bound::Unbounded)).take(count).cloned().collect()
}

#[cfg(test)]
mod tests;
