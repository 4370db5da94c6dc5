//! Random graphs, changed at random between mark and sweep and between the batches: nothing that is reachable is
//! removed, and what is unreachable goes in the end.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use corten_gc::{Clock, Edges, Graph, Store};
use proptest::prelude::*;

/// Rows that refer to each other; roots are rows that stay.
#[derive(Clone, Debug, Default)]
struct Rows {
    edges: BTreeMap<u8, BTreeSet<u8>>,
    roots: BTreeSet<u8>,
    touched: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Create(u8),
    Refer(u8, u8),
    Forget(u8, u8),
    Root(u8),
    Unroot(u8),
}

impl Rows {
    fn apply(&mut self, change: &Change) {
        match *change {
            Change::Create(node) => {
                self.edges.entry(node).or_default();
                self.touched.push(node);
            }
            // A writer can refer only to what exists; whoever is given a reference is touched.
            Change::Refer(from, to) if self.edges.contains_key(&from) && self.edges.contains_key(&to) => {
                self.edges.entry(from).or_default().insert(to);
                self.touched.push(from);
                self.touched.push(to);
            }
            Change::Forget(from, to) => {
                if let Some(targets) = self.edges.get_mut(&from) {
                    targets.remove(&to);
                }
            }
            Change::Root(node) if self.edges.contains_key(&node) => {
                self.roots.insert(node);
                self.touched.push(node);
            }
            Change::Unroot(node) => {
                self.roots.remove(&node);
            }
            Change::Refer(..) | Change::Root(_) => {}
        }
    }

    fn reachable(&self) -> BTreeSet<u8> {
        let mut reached = BTreeSet::new();
        let mut pending: Vec<u8> = self.roots.iter().copied().collect();
        while let Some(node) = pending.pop() {
            if reached.insert(node) {
                pending.extend(self.edges.get(&node).into_iter().flatten());
            }
        }
        reached
    }

    fn graph(&mut self) -> Graph<u8> {
        self.touched.clear();
        let mut graph = Graph::new(SystemTime::UNIX_EPOCH);
        for (&from, targets) in &self.edges {
            graph.candidate(from);
            for &to in targets {
                graph.edge(from, to);
            }
        }
        for &root in &self.roots {
            graph.root(root);
        }
        graph
    }
}

impl Edges<u8> for Rows {
    type Error = std::convert::Infallible;
    fn edges_from(&mut self, node: &u8, found: &mut Vec<u8>) -> Result<(), Self::Error> {
        found.extend(self.edges.get(node).into_iter().flatten());
        Ok(())
    }
}

impl Store<u8> for Rows {
    fn take_touched(&mut self) -> Result<Vec<u8>, Self::Error> {
        Ok(std::mem::take(&mut self.touched))
    }
    fn remove(&mut self, node: &u8) -> Result<bool, Self::Error> {
        assert!(!self.reachable().contains(node), "{node} is reachable and removed: {self:?}");
        Ok(self.edges.remove(node).is_some())
    }
}

/// A clock that is always late, so that batches are as short as they can be.
struct Late(Cell<u64>);

impl Clock for Late {
    fn elapsed(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_secs(self.0.get())
    }
}

const NODES: u8 = 60;

fn change() -> impl Strategy<Value = Change> {
    let node = 0..NODES;
    prop_oneof![
        2 => node.clone().prop_map(Change::Create),
        6 => (node.clone(), node.clone()).prop_map(|(from, to)| Change::Refer(from, to)),
        2 => (node.clone(), node.clone()).prop_map(|(from, to)| Change::Forget(from, to)),
        1 => node.clone().prop_map(Change::Root),
        1 => node.prop_map(Change::Unroot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_reachable_is_removed_and_garbage_goes_in_the_end(
        before in proptest::collection::vec(change(), 0..200),
        between in proptest::collection::vec(proptest::collection::vec(change(), 0..12), 1..8),
    ) {
        let mut rows = Rows::default();
        for node in 0..NODES {
            rows.apply(&Change::Create(node));
        }
        for change in &before {
            rows.apply(change);
        }
        let clock = Late(Cell::new(0));
        let mut sweep = rows.graph().mark();
        let mut rounds = between.iter();
        while !sweep.is_finished() {
            for change in rounds.next().into_iter().flatten() {
                rows.apply(change);
            }
            let Ok(batch) = sweep.batch(&mut rows, &clock, Duration::ZERO);
            sweep.accept(batch);
            let reachable = rows.reachable();
            prop_assert!(reachable.iter().all(|node| rows.edges.contains_key(node)), "something reachable is gone");
        }
        let mut sweep = rows.graph().mark();
        while !sweep.is_finished() {
            let Ok(batch) = sweep.batch(&mut rows, &clock, Duration::ZERO);
            sweep.accept(batch);
        }
        prop_assert_eq!(rows.edges.keys().copied().collect::<BTreeSet<_>>(), rows.reachable());
    }
}
