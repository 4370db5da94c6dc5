//! What committed snapshots stand on, remembered: it never changes, and every prepare asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use corten_database::Refusal;
use corten_database::rusqlite::Connection;
use corten_types::Error;

use super::rows;

/// More snapshots below one another than any filesystem can stack.
const CHAIN_LIMIT: usize = 4096;

/// How many numbers are remembered, over all chains: half a megabyte.
const REMEMBERED_LIMIT: usize = 64 << 10;

/// Chains by the number of their uppermost snapshot, which no other will ever have.
#[derive(Debug, Default)]
pub(super) struct Chains(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    chains: HashMap<u64, Arc<[u64]>>,
    numbers: usize,
}

impl Chains {
    /// The numbers from the committed snapshot `name` downwards; none for an empty name.
    pub(super) fn below(&self, connection: &Connection, name: &str) -> Result<Vec<u64>, Refusal> {
        let mut ids = Vec::new();
        let mut name = name.to_owned();
        while !name.is_empty() {
            if ids.len() == CHAIN_LIMIT {
                return Err(Error::resource_exhausted(format!(
                    "more than {CHAIN_LIMIT} snapshots below one another"
                ))
                .into());
            }
            let (id, parent, is_committed) = rows::link(connection, &name)?;
            if let Some(known) = self.get(id) {
                ids.extend_from_slice(&known);
                break;
            }
            ids.push(id);
            // What is not committed may still be put on a parent.
            name = if is_committed { parent } else { String::new() };
        }
        self.put(&ids);
        Ok(ids)
    }

    fn get(&self, id: u64) -> Option<Arc<[u64]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).chains.get(&id).cloned()
    }

    fn put(&self, ids: &[u64]) {
        let Some(top) = ids.first() else { return };
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.chains.contains_key(top) {
            return;
        }
        if remembered.numbers + ids.len() > REMEMBERED_LIMIT {
            *remembered = Remembered::default();
        }
        remembered.numbers += ids.len();
        remembered.chains.insert(*top, ids.into());
    }
}

#[cfg(test)]
mod tests {
    use super::{Chains, REMEMBERED_LIMIT};

    #[test]
    fn only_so_much_is_remembered() {
        let chains = Chains::default();
        let long: Vec<u64> = (1..=1024).collect();
        for top in 0..(REMEMBERED_LIMIT / 1025) as u64 {
            let chain: Vec<u64> = [10_000 + top].into_iter().chain(long.iter().copied()).collect();
            chains.put(&chain);
        }
        assert!(chains.get(10_000).is_some());
        chains.put(&[vec![99_999], long].concat());
        assert!(chains.get(10_000).is_none() && chains.get(99_999).is_some(), "all go at once");
        assert!(chains.0.lock().unwrap().numbers <= REMEMBERED_LIMIT);
    }
}
