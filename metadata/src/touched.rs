//! The grey queue: what writers touched while a collection runs.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::node::Node;

/// With more nodes than this waiting, the collection is given up and begun again: nodes.
pub(crate) const MOST_TOUCHED_NODES: usize = 1 << 20;

/// What writers touched since the running collection began (`consistency.md` §4). Nodes are added by operations on
/// the writer's thread, and taken there too. One whose operation was undone does no harm: it is kept this time.
#[derive(Debug)]
pub(crate) struct Touched {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    collecting: bool,
    overflowed: bool,
    nodes: HashSet<Node>,
}

impl Default for Touched {
    fn default() -> Self {
        Self::with_limit(MOST_TOUCHED_NODES)
    }
}

impl Touched {
    fn with_limit(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to gather. Called in an operation, so that all before it is in the snapshot that follows.
    pub(crate) fn begin(&self) {
        *self.lock() = State { collecting: true, ..State::default() };
    }

    /// Gathers no more.
    pub(crate) fn end(&self) {
        *self.lock() = State::default();
    }

    /// Adds what `node` makes, if a collection runs.
    pub(crate) fn add(&self, node: impl FnOnce() -> Node) {
        let mut state = self.lock();
        if !state.collecting || state.overflowed {
            return;
        }
        if state.nodes.len() == self.limit {
            state.overflowed = true;
            state.nodes = HashSet::new();
            return;
        }
        state.nodes.insert(node());
    }

    /// What waits; `None` if it became too much, or nobody gathered.
    pub(crate) fn take(&self) -> Option<Vec<Node>> {
        let mut state = self.lock();
        (state.collecting && !state.overflowed).then(|| state.nodes.drain().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Kind;

    fn node(id: usize) -> Node {
        Node::new(Kind::Content, &"ns".into(), id.to_string())
    }

    #[test]
    fn nothing_is_gathered_outside_a_collection() {
        let touched = Touched::default();
        touched.add(|| unreachable!("no collection runs"));
        assert!(touched.take().is_none());
        touched.begin();
        touched.add(|| node(1));
        touched.add(|| node(1));
        assert_eq!(touched.take().map(|nodes| nodes.len()), Some(1));
        assert_eq!(touched.take().map(|nodes| nodes.len()), Some(0));
        touched.end();
        assert!(touched.take().is_none());
    }

    #[test]
    fn one_node_too_many_gives_the_collection_up() {
        let touched = Touched::with_limit(3);
        touched.begin();
        for id in 0..3 {
            touched.add(|| node(id));
        }
        assert_eq!(touched.take().map(|nodes| nodes.len()), Some(3), "as many as it may be");
        for id in 0..4 {
            touched.add(|| node(id));
        }
        assert!(touched.take().is_none());
        touched.begin();
        assert!(touched.take().is_some(), "the next collection gathers again");
    }
}
