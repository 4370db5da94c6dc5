//! The protocol of `docs/formats/consistency.md` as a model: every order of steps, and a crash between any two of them.

mod blobs;
mod resources;
mod snapshots;

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
};

/// A state of the protocol.
trait World: Clone + Eq + Hash + Debug {
    /// Every state that one step leads to, with the name of the step.
    fn steps(&self) -> Vec<(&'static str, Self)>;

    /// One of the states that differ from this one in nothing but names.
    #[must_use]
    fn canonical(self) -> Self {
        self
    }

    /// What must hold in every state.
    fn check(&self) -> Result<(), String>;

    /// What must hold after a crash here, the next opening, and a collection beside nobody.
    fn check_settled(&self) -> Result<(), String>;
}

/// Visits every state that can be reached; answers with how many there are.
fn explore<W: World>(start: W) -> usize {
    let mut indexes: HashMap<W, usize> = HashMap::new();
    let mut origins: Vec<(usize, &'static str)> = vec![(0, "start")];
    let mut pending = VecDeque::from([start.clone()]);
    indexes.insert(start, 0);
    while let Some(world) = pending.pop_front() {
        let from = indexes[&world];
        if let Err(broken) = world.check().and_then(|()| world.check_settled()) {
            panic!("{broken}\nin {world:?}\nafter {:?}", history(&origins, from));
        }
        for (name, next) in world.steps() {
            let next = next.canonical();
            if !indexes.contains_key(&next) {
                indexes.insert(next.clone(), origins.len());
                origins.push((from, name));
                pending.push_back(next);
            }
        }
    }
    indexes.len()
}

fn history(origins: &[(usize, &'static str)], mut index: usize) -> Vec<&'static str> {
    let mut steps = Vec::new();
    while index != 0 {
        let (from, name) = origins[index];
        steps.push(name);
        index = from;
    }
    steps.reverse();
    steps
}
