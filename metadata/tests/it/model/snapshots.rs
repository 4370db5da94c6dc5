//! Three snapshots, each standing on the one before: the namespace's rows, the snapshotter's, and commits between them.

use super::{World, explore};

const SNAPSHOTS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    None,
    Active,
    /// The commit is announced.
    Announced,
    Committed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Below {
    None,
    Active,
    Committed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// The snapshotter has it, the namespace does not yet; with the label that makes it a root, or without.
    Prepared(usize, bool),
    Announced(usize),
    CommittedBelow(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Collection {
    Idle,
    Gathering { grey: [bool; SNAPSHOTS] },
    Sweeping { grey: [bool; SNAPSHOTS], marked: [bool; SNAPSHOTS], left: [bool; SNAPSHOTS] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Store {
    row: [Row; SNAPSHOTS],
    below: [Below; SNAPSHOTS],
    /// What the snapshotter has is to be removed. Names are never used twice, so a new one waits for that.
    tombstone: [bool; SNAPSHOTS],
    rooted: [bool; SNAPSHOTS],
    writer: Writer,
    collection: Collection,
}

impl Store {
    const EMPTY: Self = Self {
        row: [Row::None; SNAPSHOTS],
        below: [Below::None; SNAPSHOTS],
        tombstone: [false; SNAPSHOTS],
        rooted: [false; SNAPSHOTS],
        writer: Writer::Idle,
        collection: Collection::Idle,
    };

    fn touch(&mut self, snapshot: usize) {
        if let Collection::Gathering { grey } | Collection::Sweeping { grey, .. } = &mut self.collection {
            grey[snapshot] = true;
        }
    }

    fn exists(&self, snapshot: usize) -> bool {
        self.row[snapshot] != Row::None
    }

    fn can_stand_on_parent(&self, snapshot: usize) -> bool {
        snapshot == 0 || self.row[snapshot - 1] == Row::Committed
    }

    /// What is kept if `kept` is: a snapshot keeps those below it.
    fn closure(&self, mut kept: [bool; SNAPSHOTS]) -> [bool; SNAPSHOTS] {
        for snapshot in (1..SNAPSHOTS).rev() {
            kept[snapshot - 1] |= kept[snapshot] && self.exists(snapshot);
        }
        kept
    }

    fn remove_row(&mut self, snapshot: usize) {
        self.row[snapshot] = Row::None;
        self.rooted[snapshot] = false;
        self.tombstone[snapshot] = true;
    }

    fn marked(&self, grey: [bool; SNAPSHOTS]) -> Self {
        let left = std::array::from_fn(|snapshot| self.exists(snapshot));
        let marked = self.closure(self.rooted);
        Self { collection: sweeping(grey, marked, left), ..*self }
    }

    /// One batch of the sweep: the grey queue to closure, then one removal, children before parents.
    fn sweep(&self) -> Option<Self> {
        let Collection::Sweeping { grey, marked, mut left } = self.collection else { return None };
        let touched = self.closure(grey);
        let kept: [bool; SNAPSHOTS] = std::array::from_fn(|snapshot| marked[snapshot] || touched[snapshot]);
        let mut next = Self { collection: Collection::Idle, ..*self };
        for snapshot in (0..SNAPSHOTS).rev() {
            if !std::mem::take(&mut left[snapshot]) {
                continue;
            }
            next.collection = sweeping([false; SNAPSHOTS], kept, left);
            if !kept[snapshot] && self.exists(snapshot) {
                next.remove_row(snapshot);
                break;
            }
        }
        Some(next)
    }

    fn writer_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        let mut next = *self;
        next.writer = Writer::Idle;
        match self.writer {
            Writer::Idle => self.begin_steps(steps),
            Writer::Prepared(snapshot, rooted) => {
                if self.can_stand_on_parent(snapshot) {
                    next.row[snapshot] = Row::Active;
                    next.rooted[snapshot] = rooted;
                    next.touch(snapshot);
                    steps.push(("the row of a new snapshot is written", next));
                } else {
                    next.below[snapshot] = Below::None;
                    steps.push(("the parent is gone, the new snapshot is removed", next));
                }
            }
            Writer::Announced(snapshot) => {
                if self.below[snapshot] == Below::Active {
                    next.below[snapshot] = Below::Committed;
                    next.writer = Writer::CommittedBelow(snapshot);
                    steps.push(("the snapshotter commits", next));
                } else {
                    steps.push(("the snapshotter does not know it any more", next));
                }
            }
            Writer::CommittedBelow(snapshot) => {
                if self.row[snapshot] == Row::Announced && self.can_stand_on_parent(snapshot) {
                    next.row[snapshot] = Row::Committed;
                    next.touch(snapshot);
                    steps.push(("the committed row is written", next));
                } else {
                    // A tombstone for what is gone already harms nobody: names are never used twice.
                    next.tombstone[snapshot] = self.below[snapshot] != Below::None;
                    steps.push(("it was collected, what was committed goes too", next));
                }
            }
        }
    }

    fn begin_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        for snapshot in 0..SNAPSHOTS {
            let mut next = *self;
            match self.row[snapshot] {
                Row::None if self.below[snapshot] == Below::None && self.can_stand_on_parent(snapshot) => {
                    next.below[snapshot] = Below::Active;
                    for rooted in [false, true] {
                        next.writer = Writer::Prepared(snapshot, rooted);
                        steps.push(("the snapshotter prepares", next));
                    }
                }
                Row::Active => {
                    next.row[snapshot] = Row::Announced;
                    next.touch(snapshot);
                    next.writer = Writer::Announced(snapshot);
                    steps.push(("a commit is announced", next));
                }
                _ => {}
            }
        }
    }

    fn client_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        for snapshot in (0..SNAPSHOTS).filter(|&snapshot| self.exists(snapshot)) {
            let mut next = *self;
            if self.rooted[snapshot] {
                next.rooted[snapshot] = false;
                steps.push(("the root label is removed", next));
            } else {
                next.rooted[snapshot] = true;
                next.touch(snapshot);
                steps.push(("the root label is set", next));
            }
            let has_children = snapshot + 1 < SNAPSHOTS && self.exists(snapshot + 1);
            let is_busy = matches!(self.writer, Writer::Announced(held) | Writer::CommittedBelow(held) if held == snapshot);
            if !has_children && !is_busy {
                let mut next = *self;
                next.remove_row(snapshot);
                steps.push(("a client removes a snapshot", next));
            }
        }
    }

    fn crashed(&self) -> Self {
        let mut next = Self { writer: Writer::Idle, collection: Collection::Idle, ..*self };
        for snapshot in 0..SNAPSHOTS {
            if next.row[snapshot] == Row::Announced {
                let committed = next.below[snapshot] == Below::Committed;
                next.row[snapshot] = if committed { Row::Committed } else { Row::Active };
            }
            next.tombstone[snapshot] |=
                next.row[snapshot] == Row::None && next.below[snapshot] != Below::None;
        }
        next
    }
}

/// Marks matter only for what is left: states that differ in nothing else are one.
fn sweeping(grey: [bool; SNAPSHOTS], marked: [bool; SNAPSHOTS], left: [bool; SNAPSHOTS]) -> Collection {
    let marked = std::array::from_fn(|snapshot| marked[snapshot] && left[snapshot]);
    Collection::Sweeping { grey, marked, left }
}

impl World for Store {
    fn steps(&self) -> Vec<(&'static str, Self)> {
        let mut steps = vec![("crash", self.crashed())];
        self.writer_steps(&mut steps);
        self.client_steps(&mut steps);
        for snapshot in (0..SNAPSHOTS).filter(|&snapshot| self.tombstone[snapshot]) {
            let has_children = snapshot + 1 < SNAPSHOTS && self.below[snapshot + 1] != Below::None;
            if !has_children {
                let mut next = *self;
                next.below[snapshot] = Below::None;
                next.tombstone[snapshot] = false;
                steps.push(("the remover removes a tree", next));
            }
        }
        match self.collection {
            Collection::Idle => {
                let gathering = Collection::Gathering { grey: [false; SNAPSHOTS] };
                steps.push(("a collection begins", Self { collection: gathering, ..*self }));
            }
            Collection::Gathering { grey } => steps.push(("a snapshot is marked", self.marked(grey))),
            Collection::Sweeping { .. } => steps.extend(self.sweep().map(|next| ("a batch is swept", next))),
        }
        steps
    }

    fn check(&self) -> Result<(), String> {
        for snapshot in 0..SNAPSHOTS {
            let agrees = match self.row[snapshot] {
                Row::None => true,
                Row::Active => self.below[snapshot] == Below::Active,
                Row::Announced => self.below[snapshot] != Below::None,
                Row::Committed => self.below[snapshot] == Below::Committed,
            };
            if !agrees || (self.exists(snapshot) && self.tombstone[snapshot]) {
                return Err(format!("row and snapshotter disagree about {snapshot}"));
            }
            if self.exists(snapshot) && !self.can_stand_on_parent(snapshot) {
                return Err(format!("{snapshot} has lost its parent"));
            }
            if self.rooted[snapshot] && !self.exists(snapshot) {
                return Err(format!("{snapshot} is a root and was removed"));
            }
        }
        Ok(())
    }

    fn check_settled(&self) -> Result<(), String> {
        let opened = self.crashed();
        opened.check()?;
        if (0..SNAPSHOTS).any(|snapshot| self.exists(snapshot) != opened.exists(snapshot)) {
            return Err("a row that was there is gone after the crash, or one is back".to_owned());
        }
        let mut world = opened.marked([false; SNAPSHOTS]);
        while let Some(next) = world.sweep() {
            world = next;
        }
        let kept = opened.closure(opened.rooted);
        for (snapshot, kept) in kept.into_iter().enumerate() {
            if world.exists(snapshot) != (kept && opened.exists(snapshot)) {
                return Err(format!("{snapshot} is garbage and stays, or is kept and goes"));
            }
            if world.below[snapshot] != Below::None && !world.exists(snapshot) && !world.tombstone[snapshot] {
                return Err(format!("the tree of {snapshot} is forgotten"));
            }
        }
        Ok(())
    }
}

#[test]
fn snapshots_are_neither_lost_nor_forgotten_in_any_order_of_steps() {
    let states = explore(Store::EMPTY);
    assert!(states > 5_000, "{states} states prove little");
}
