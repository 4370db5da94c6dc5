//! The graph as it was at one instant, copied to memory.

use std::{collections::HashMap, hash::Hash, time::SystemTime};

use crate::{Marker, Sweep};

/// Nodes, edges and roots, gathered in one quick pass over a snapshot of the store.
///
/// Nodes are whatever the caller names them by; a node may be named by an edge before, or without ever, being
/// declared as something that exists.
#[derive(Clone, Debug)]
pub struct Graph<N> {
    now: SystemTime,
    names: Names<N>,
    edges: Vec<(u32, u32)>,
    roots: Vec<u32>,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    row: u32,
    whole: u32,
}

impl<N: Eq + Hash + Clone> Graph<N> {
    /// An empty graph. `now` decides for the whole collection which leases are over.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self { now, names: Names::new(), edges: Vec::new(), roots: Vec::new(), candidates: Vec::new() }
    }

    /// The instant that decides which leases are over.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Declares something that exists and goes if nothing refers to it.
    pub fn candidate(&mut self, node: N) {
        let index = self.names.index_of(node);
        self.candidates.push(Candidate { row: index, whole: index });
    }

    /// Declares something that can be kept in two ways: `row` alone, or `whole`, which keeps `row` and all that it has
    /// edges to. At the sweep, [`Edges`](crate::Edges) of `whole` must name `row` too.
    pub fn candidate_in(&mut self, row: N, whole: N) {
        let row = self.names.index_of(row);
        let whole = self.names.index_of(whole);
        self.edges.push((whole, row));
        self.candidates.push(Candidate { row, whole });
    }

    /// Declares something that stays, with all it refers to.
    pub fn root(&mut self, node: N) {
        let index = self.names.index_of(node);
        self.roots.push(index);
    }

    /// Declares something that stays until `expires_at`; for ever without it. Says whether it stays now.
    pub fn leased_root(&mut self, node: N, expires_at: Option<SystemTime>) -> bool {
        let lives = expires_at.is_none_or(|instant| instant > self.now);
        if lives {
            self.root(node);
        }
        lives
    }

    /// Declares that `from` keeps `to`.
    pub fn edge(&mut self, from: N, to: N) {
        let from = self.names.index_of(from);
        let to = self.names.index_of(to);
        self.edges.push((from, to));
    }

    /// How many nodes have been named.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.names.len()
    }

    /// Marks what the roots keep. What is left of the candidates goes into the sweep, those that refer before those
    /// they refer to, and circles at once: what has not been swept yet is whole.
    #[must_use]
    pub fn mark(mut self) -> Sweep<N> {
        let targets = Targets::new(self.names.len(), &mut self.edges);
        let mut reached = vec![false; self.names.len()];
        let mut pending = std::mem::take(&mut self.roots);
        while let Some(node) = pending.pop() {
            if !std::mem::replace(&mut reached[node as usize], true) {
                pending.extend_from_slice(targets.of(node));
            }
        }
        let mut candidates = Vec::new();
        let mut names = self.names.unreached(&reached);
        for group in referrers_first(&self.candidates, &reached, &targets) {
            let last = group.len() - 1;
            let rows = group.into_iter().enumerate();
            candidates.extend(rows.filter_map(|(at, row)| Some((names.remove(&row)?, at == last))));
        }
        Sweep::new(Marker::from_parts(self.names, reached), candidates)
    }
}

/// The unreached candidates, those that refer before those they refer to. What refers to each other in a circle is one
/// group.
fn referrers_first(candidates: &[Candidate], reached: &[bool], targets: &Targets) -> Vec<Vec<u32>> {
    let mut rows = vec![None; reached.len()];
    for candidate in candidates.iter().filter(|candidate| !reached[candidate.row as usize]) {
        rows[candidate.whole as usize] = Some(candidate.row);
    }
    let mut circles = Circles {
        rows,
        numbers: vec![0; reached.len()],
        lows: vec![0; reached.len()],
        count: 0,
        open: Vec::new(),
        groups: Vec::new(),
    };
    for candidate in candidates.iter().filter(|candidate| !reached[candidate.whole as usize]) {
        circles.visit(candidate.whole, reached, targets);
    }
    circles.groups.reverse();
    circles.groups
}

/// Tarjan's strongly connected components, without recursion: groups come out with what they refer to first.
struct Circles {
    /// The row of each node that is a candidate, until it is in a group.
    rows: Vec<Option<u32>>,
    /// In which order nodes were met, from 1; 0 for those that were not.
    numbers: Vec<u32>,
    /// The first node that can be reached back, or `DONE` once the node is in a group.
    lows: Vec<u32>,
    count: u32,
    open: Vec<u32>,
    groups: Vec<Vec<u32>>,
}

const DONE: u32 = u32::MAX;

impl Circles {
    fn visit(&mut self, start: u32, reached: &[bool], targets: &Targets) {
        if self.numbers[start as usize] != 0 {
            return;
        }
        let mut path = vec![(self.meet(start), 0)];
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            if let Some(&target) = targets.of(node).get(*next) {
                *next += 1;
                let at = target as usize;
                if reached[at] {
                    continue;
                }
                if self.numbers[at] == 0 {
                    path.push((self.meet(target), 0));
                } else if self.lows[at] != DONE {
                    self.lows[node as usize] = self.lows[node as usize].min(self.numbers[at]);
                }
                continue;
            }
            path.pop();
            let low = self.lows[node as usize];
            if let Some(&(parent, _)) = path.last() {
                let parent = parent as usize;
                self.lows[parent] = self.lows[parent].min(low);
            }
            if low == self.numbers[node as usize] {
                self.close(node);
            }
        }
    }

    fn meet(&mut self, node: u32) -> u32 {
        self.count += 1;
        self.numbers[node as usize] = self.count;
        self.lows[node as usize] = self.count;
        self.open.push(node);
        node
    }

    /// Everything that was met since `node` and is open is one group with it.
    fn close(&mut self, node: u32) {
        let mut group = Vec::new();
        while let Some(member) = self.open.pop() {
            self.lows[member as usize] = DONE;
            group.extend(self.rows[member as usize].take());
            if member == node {
                break;
            }
        }
        if !group.is_empty() {
            self.groups.push(group);
        }
    }
}

/// The targets of each node, side by side.
struct Targets {
    starts: Vec<usize>,
    targets: Vec<u32>,
}

impl Targets {
    fn new(nodes: usize, edges: &mut [(u32, u32)]) -> Self {
        edges.sort_unstable();
        let mut starts = vec![0; nodes + 1];
        for &(from, _) in edges.iter() {
            starts[from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        Self { starts, targets: edges.iter().map(|&(_, to)| to).collect() }
    }

    fn of(&self, node: u32) -> &[u32] {
        &self.targets[self.starts[node as usize]..self.starts[node as usize + 1]]
    }
}

/// A small number for each node that was named.
#[derive(Clone, Debug)]
pub(crate) struct Names<N> {
    indexes: HashMap<N, u32>,
}

impl<N: Eq + Hash + Clone> Names<N> {
    fn new() -> Self {
        Self { indexes: HashMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.indexes.len()
    }

    /// The number of `node`, which is new if it equals the length before.
    ///
    /// # Panics
    /// With more than four thousand million nodes: they would not fit into memory.
    pub(crate) fn index_of(&mut self, node: N) -> u32 {
        let next = u32::try_from(self.indexes.len()).expect("fewer nodes than 2^32 fit into memory");
        *self.indexes.entry(node).or_insert(next)
    }

    pub(crate) fn find(&self, node: &N) -> Option<u32> {
        self.indexes.get(node).copied()
    }

    /// The names of the nodes that are not reached, by their numbers.
    fn unreached(&self, reached: &[bool]) -> HashMap<u32, N> {
        let unreached = self.indexes.iter().filter(|&(_, &index)| !reached[index as usize]);
        unreached.map(|(name, &index)| (index, name.clone())).collect()
    }
}
