//! Which exits were published already: shims repeat theirs until the daemon answers (`consistency.md` §6, row E10).

use std::{
    collections::{HashSet, VecDeque},
    sync::Mutex,
};

use crate::{locked, registry::Key};

/// How many exits are remembered. A repetition comes within seconds; this is room for far more.
pub(crate) const MAX_RECORDED_EXITS: usize = 4096;

/// One process that ended. The same pid of the same exec of the same container is the same process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExitKey {
    pub(crate) task: Key,
    /// The exec's id; the container's for its first process (trap 15).
    pub(crate) process: String,
    pub(crate) pid: u32,
}

#[derive(Debug, Default)]
struct Records {
    known: HashSet<ExitKey>,
    order: VecDeque<ExitKey>,
}

/// The latest exits.
#[derive(Debug, Default)]
pub(crate) struct Exits(Mutex<Records>);

impl Exits {
    /// Records an exit. `false` if it was recorded before: it must not be published again.
    pub(crate) fn record(&self, key: ExitKey) -> bool {
        let mut records = locked(&self.0);
        if !records.known.insert(key.clone()) {
            return false;
        }
        records.order.push_back(key);
        if records.order.len() > MAX_RECORDED_EXITS
            && let Some(oldest) = records.order.pop_front()
        {
            records.known.remove(&oldest);
        }
        true
    }

    /// A process with this key has just started: its exit will be a new one, though an earlier had the same pid.
    pub(crate) fn forget(&self, key: &ExitKey) {
        let mut records = locked(&self.0);
        if records.known.remove(key) {
            records.order.retain(|known| known != key);
        }
    }
}

#[cfg(test)]
mod tests;
