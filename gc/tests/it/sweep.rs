//! What a sweep does with a graph that stands still.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use corten_gc::{Clock, Edges, Graph, MonotonicClock, Store, Sweep};

#[derive(Default)]
struct Rows {
    edges: BTreeMap<u32, Vec<u32>>,
    removed: Vec<u32>,
    touched: Vec<u32>,
    fails: bool,
}

impl Edges<u32> for Rows {
    type Error = &'static str;
    fn edges_from(&mut self, node: &u32, found: &mut Vec<u32>) -> Result<(), Self::Error> {
        if self.fails {
            return Err("cannot read");
        }
        found.extend(self.edges.get(node).into_iter().flatten());
        Ok(())
    }
}

impl Store<u32> for Rows {
    fn take_touched(&mut self) -> Result<Vec<u32>, Self::Error> {
        Ok(std::mem::take(&mut self.touched))
    }
    fn remove(&mut self, node: &u32) -> Result<bool, Self::Error> {
        self.removed.push(*node);
        Ok(true)
    }
}

struct Steps(Cell<u64>);

impl Clock for Steps {
    fn elapsed(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_millis(self.0.get())
    }
}

fn chain(length: u32) -> Graph<u32> {
    let mut graph = Graph::new(SystemTime::UNIX_EPOCH);
    for node in (0..length).rev() {
        graph.candidate(node);
        graph.edge(node, node + 1);
    }
    graph
}

fn sweep_all(sweep: &mut Sweep<u32>, rows: &mut Rows) {
    let clock = MonotonicClock::default();
    while !sweep.is_finished() {
        let batch = sweep.batch(rows, &clock, Duration::from_secs(1)).expect("the rows can be read");
        sweep.accept(batch);
    }
}

#[test]
fn what_refers_is_removed_before_what_it_refers_to() {
    let mut rows = Rows::default();
    sweep_all(&mut chain(100).mark(), &mut rows);
    assert_eq!(rows.removed, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_circle_is_removed_in_one_batch() {
    let mut graph = chain(100);
    graph.edge(99, 0);
    graph.candidate(200);
    graph.edge(200, 50);
    let mut rows = Rows::default();
    let mut sweep = graph.mark();
    let batch = sweep.batch(&mut rows, &Steps(Cell::new(0)), Duration::ZERO).expect("the rows can be read");
    assert_eq!((rows.removed[0], batch.removed), (200, 101), "what refers to the circle goes before it");
    assert!(batch.finished);
}

#[test]
fn a_root_keeps_what_it_reaches_until_its_lease_is_over() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let later = now + Duration::from_secs(1);
    for (expires_at, kept) in [(None, true), (Some(later), true), (Some(now), false)] {
        let mut graph = Graph::new(now);
        graph.candidate(1);
        graph.edge(0, 1);
        assert_eq!(graph.leased_root(0, expires_at), kept);
        assert_eq!(graph.mark().candidates().len() == 0, kept, "{expires_at:?}");
    }
}

#[test]
fn a_batch_ends_when_its_time_is_over_and_the_next_goes_on() {
    let mut sweep = chain(1000).mark();
    let mut rows = Rows::default();
    let clock = Steps(Cell::new(0));
    let mut batches = 0;
    while !sweep.is_finished() {
        let batch = sweep.batch(&mut rows, &clock, Duration::from_millis(2)).expect("the rows can be read");
        assert!(batch.removed > 0 && batch.removed <= 32, "{batch:?}");
        sweep.accept(batch);
        batches += 1;
    }
    assert!(batches >= 1000 / 32);
    assert_eq!(rows.removed.len(), 1000);
}

#[test]
fn a_batch_that_is_not_accepted_is_done_again() {
    let mut sweep = chain(3).mark();
    let mut rows = Rows::default();
    let clock = MonotonicClock::default();
    let lost = sweep.batch(&mut rows, &clock, Duration::from_secs(1)).expect("the rows can be read");
    assert!(lost.finished && !sweep.is_finished());
    rows.removed.clear();
    sweep_all(&mut sweep, &mut rows);
    assert_eq!(rows.removed, [0, 1, 2]);
}

#[test]
fn a_touched_node_that_was_marked_before_is_read_again() {
    let mut graph = chain(3);
    graph.root(7);
    let mut sweep = graph.mark();
    let mut rows =
        Rows { edges: BTreeMap::from([(7, vec![1]), (1, vec![2])]), touched: vec![7], ..Rows::default() };
    sweep_all(&mut sweep, &mut rows);
    assert_eq!(rows.removed, [0], "1 and what it keeps are kept by 7 now");
}

#[test]
fn a_batch_whose_edges_cannot_be_read_fails_and_removes_nothing() {
    let mut sweep = chain(3).mark();
    let mut rows = Rows { touched: vec![1], fails: true, ..Rows::default() };
    let failed = sweep.batch(&mut rows, &MonotonicClock::default(), Duration::from_secs(1));
    assert_eq!(failed, Err("cannot read"));
    assert!(rows.removed.is_empty());
    rows.fails = false;
    sweep_all(&mut sweep, &mut rows);
    assert_eq!(rows.removed, [0, 2], "what was touched before the failure is not forgotten");
}

#[test]
fn a_row_can_be_kept_without_what_it_refers_to() {
    let mut graph = Graph::new(SystemTime::UNIX_EPOCH);
    for node in [1, 2, 3] {
        graph.candidate_in(node, node + 10);
    }
    graph.edge(11, 12);
    graph.edge(12, 13);
    let mut untouched = Rows::default();
    let mut kept = graph.clone();
    kept.root(1);
    sweep_all(&mut kept.mark(), &mut untouched);
    assert_eq!(untouched.removed, [2, 3]);
    let mut rows = Rows {
        edges: BTreeMap::from([(12, vec![2, 13]), (13, vec![3])]),
        touched: vec![12],
        ..Rows::default()
    };
    sweep_all(&mut graph.mark(), &mut rows);
    assert_eq!(rows.removed, [1]);
}
