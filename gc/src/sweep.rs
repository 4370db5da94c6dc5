//! Removing what is not kept, in batches that are short.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use crate::{Edges, Marker};

/// A clock that a test can turn.
pub trait Clock {
    /// The time since any fixed instant; it never goes back.
    fn elapsed(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock(Instant);

impl Default for MonotonicClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for MonotonicClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The store inside the transaction of one batch.
pub trait Store<N>: Edges<N> {
    /// Takes all that writers touched since the last time. A batch that fails afterwards does not forget it.
    ///
    /// # Errors
    /// If it is not known any more, because it became too much: the sweep must then be given up.
    fn take_touched(&mut self) -> Result<Vec<N>, Self::Error>;

    /// Removes `node`; whether it still existed.
    ///
    /// # Errors
    /// If the store cannot be written. The batch is then given up as a whole.
    fn remove(&mut self, node: &N) -> Result<bool, Self::Error>;
}

/// What one batch did. It counts only once it is handed to [`Sweep::accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a batch that is not accepted is done again"]
pub struct Batch {
    /// How many were removed.
    pub removed: u64,
    /// How many had been touched, or reached from what was touched, and stay.
    pub spared: u64,
    /// Whether nothing is left.
    pub finished: bool,
    next: usize,
}

/// What a mark left over: nodes to remove, unless writers touch them first.
#[derive(Debug)]
pub struct Sweep<N> {
    marker: Marker<N>,
    /// In the order of removal; whether a batch may end after each.
    candidates: Vec<(N, bool)>,
    next: usize,
    /// Touched, and not yet known to be kept with all it refers to.
    touched: Vec<N>,
}

/// How many nodes are removed between two looks at the clock.
const NODES_BETWEEN_LOOKS: usize = 4;

impl<N: Eq + Hash + Clone> Sweep<N> {
    pub(crate) fn new(marker: Marker<N>, candidates: Vec<(N, bool)>) -> Self {
        Self { marker, candidates, next: 0, touched: Vec::new() }
    }

    /// What is left, in the order of removal.
    #[must_use]
    pub fn candidates(&self) -> impl ExactSizeIterator<Item = &N> {
        self.candidates[self.next..].iter().map(|(node, _)| node)
    }

    /// What is kept.
    #[must_use]
    pub fn marker(&self) -> &Marker<N> {
        &self.marker
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.next == self.candidates.len()
    }

    /// Inside one transaction of `store`: keeps what was touched, to closure, then removes what is still not kept
    /// until `budget` is over, at least a few nodes and never a part of a circle. If the transaction does not commit, do not accept the batch:
    /// the next one then does the same again.
    ///
    /// # Errors
    /// What the store said. The transaction must be rolled back.
    pub fn batch<S: Store<N> + ?Sized>(
        &mut self,
        store: &mut S,
        clock: &dyn Clock,
        budget: Duration,
    ) -> Result<Batch, S::Error> {
        let started = clock.elapsed();
        self.touched.extend(store.take_touched()?);
        self.marker.shade(self.touched.iter().cloned(), store)?;
        self.touched.clear();
        let mut batch = Batch { removed: 0, spared: 0, finished: false, next: self.next };
        let mut since_look = 0;
        for (node, may_end) in &self.candidates[self.next..] {
            if self.marker.is_reached(node) {
                batch.spared += 1;
            } else {
                batch.removed += u64::from(store.remove(node)?);
            }
            batch.next += 1;
            since_look += 1;
            if *may_end && since_look >= NODES_BETWEEN_LOOKS {
                since_look = 0;
                if clock.elapsed() - started >= budget {
                    break;
                }
            }
        }
        batch.finished = batch.next == self.candidates.len();
        Ok(batch)
    }

    /// Goes on after a batch that was committed.
    pub fn accept(&mut self, batch: Batch) {
        self.next = batch.next;
    }
}
