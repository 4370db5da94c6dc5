//! What is known to be kept, and how that grows while writers go on.

use std::hash::Hash;

use crate::graph::Names;

/// Where a node's edges are read now, in the transaction of the sweep.
pub trait Edges<N> {
    /// Why reading failed.
    type Error;

    /// Adds to `found` all that `node` keeps at this moment; nothing if `node` does not exist.
    ///
    /// # Errors
    /// If the store cannot be read. The sweep's batch is then given up as a whole.
    fn edges_from(&mut self, node: &N, found: &mut Vec<N>) -> Result<(), Self::Error>;
}

/// The set of nodes that are kept. It only ever grows.
#[derive(Debug)]
pub struct Marker<N> {
    names: Names<N>,
    reached: Vec<bool>,
}

impl<N: Eq + Hash + Clone> Marker<N> {
    pub(crate) fn from_parts(names: Names<N>, reached: Vec<bool>) -> Self {
        Self { names, reached }
    }

    /// Whether `node` is kept.
    #[must_use]
    pub fn is_reached(&self, node: &N) -> bool {
        self.names.find(node).is_some_and(|index| self.reached[index as usize])
    }

    /// Keeps every node that was touched since the mark, and all that these keep now, to closure.
    ///
    /// A touched node is looked at again even if it was kept already: its edges may be new. What is only reached from
    /// it is looked at once, because whatever changed there was touched itself.
    ///
    /// # Errors
    /// If edges cannot be read. Marks that were set stay set, which is harmless: call again with the same nodes.
    pub fn shade<S: Edges<N> + ?Sized>(
        &mut self,
        touched: impl IntoIterator<Item = N>,
        store: &mut S,
    ) -> Result<(), S::Error> {
        let mut pending: Vec<N> = touched.into_iter().collect();
        for node in &pending {
            self.reach(node.clone());
        }
        let mut found = Vec::new();
        while let Some(node) = pending.pop() {
            store.edges_from(&node, &mut found)?;
            for target in found.drain(..) {
                if self.reach(target.clone()) {
                    pending.push(target);
                }
            }
        }
        Ok(())
    }

    /// Keeps `node`; whether that is new.
    fn reach(&mut self, node: N) -> bool {
        let index = self.names.index_of(node) as usize;
        if index == self.reached.len() {
            self.reached.push(false);
        }
        !std::mem::replace(&mut self.reached[index], true)
    }
}
