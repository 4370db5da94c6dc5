//! Two namespaces that share two blobs, of which the first refers to the second; an image and a lease in either namespace.

use super::{World, explore};

const NAMESPACES: usize = 2;
const BLOBS: usize = 2;

type Rows = [[bool; BLOBS]; NAMESPACES];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Writer {
    Idle,
    /// The file is there, the row is not; the digest is locked.
    Wrote(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Remover {
    Idle,
    /// The digests of the batch are locked; no rows were found for the doomed.
    Looked {
        batch: [bool; BLOBS],
        doomed: [bool; BLOBS],
    },
    /// The bytes are gone.
    Removed([bool; BLOBS]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Collection {
    Idle,
    Gathering { grey: Rows },
    Sweeping { grey: Rows, marked: Rows, left: Rows },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Store {
    file: [bool; BLOBS],
    row: Rows,
    tombstones: [u8; BLOBS],
    /// In which namespace; it names the first blob.
    image: Option<usize>,
    /// In which namespace, and the blobs it keeps.
    lease: Option<(usize, [bool; BLOBS])>,
    /// Whether both blobs were there together, for each namespace.
    whole: [bool; NAMESPACES],
    writer: Writer,
    remover: Remover,
    collection: Collection,
}

impl Store {
    const EMPTY: Self = Self {
        file: [false; BLOBS],
        row: [[false; BLOBS]; NAMESPACES],
        tombstones: [0; BLOBS],
        image: None,
        lease: None,
        whole: [false; NAMESPACES],
        writer: Writer::Idle,
        remover: Remover::Idle,
        collection: Collection::Idle,
    };

    fn touch(&mut self, namespace: usize, blob: usize) {
        if let Collection::Gathering { grey } | Collection::Sweeping { grey, .. } = &mut self.collection {
            grey[namespace][blob] = true;
        }
    }

    fn is_locked(&self, blob: usize) -> bool {
        matches!(self.writer, Writer::Wrote(_, held) if held == blob)
            || matches!(self.remover, Remover::Looked { batch, .. } if batch[blob])
    }

    fn is_owned(&self, blob: usize) -> bool {
        self.row.iter().any(|rows| rows[blob])
    }

    fn remove_row(&mut self, namespace: usize, blob: usize) {
        self.row[namespace][blob] = false;
        if !self.is_owned(blob) {
            self.tombstones[blob] += 1;
        }
        if blob == 0 {
            self.whole[namespace] = false;
        }
    }

    /// What is kept if `kept` is: the first blob refers to the second.
    fn closure(&self, mut kept: Rows) -> Rows {
        for (namespace, rows) in kept.iter_mut().enumerate() {
            rows[1] |= rows[0] && self.row[namespace][0];
        }
        kept
    }

    fn reachable(&self) -> Rows {
        let mut roots = [[false; BLOBS]; NAMESPACES];
        if let Some((namespace, kept)) = self.lease {
            roots[namespace] = kept;
        }
        if let Some(namespace) = self.image {
            roots[namespace][0] = true;
        }
        self.closure(roots)
    }

    /// One batch of the sweep: the grey queue to closure, then one removal, what refers first.
    fn sweep(&self) -> Option<Self> {
        let Collection::Sweeping { grey, mut marked, mut left } = self.collection else { return None };
        let touched = self.closure(grey);
        let mut next = Self { collection: Collection::Idle, ..*self };
        for (namespace, blob) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            marked[namespace][blob] |= touched[namespace][blob];
        }
        for (namespace, blob) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            if !std::mem::take(&mut left[namespace][blob]) {
                continue;
            }
            next.collection = sweeping([[false; BLOBS]; NAMESPACES], marked, left);
            if !marked[namespace][blob] && self.row[namespace][blob] {
                next.remove_row(namespace, blob);
                break;
            }
        }
        Some(next)
    }

    fn remover_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        match self.remover {
            Remover::Idle => {
                let may_take = |blob: usize| self.tombstones[blob] > 0 && !self.is_locked(blob);
                for batch in [[true, false], [false, true], [true, true]] {
                    if (0..BLOBS).all(|blob| !batch[blob] || may_take(blob)) {
                        let doomed = std::array::from_fn(|blob| batch[blob] && !self.is_owned(blob));
                        let next = Self { remover: looked(batch, doomed), ..*self };
                        steps.push(("the remover locks some and looks", next));
                    }
                }
            }
            Remover::Looked { batch, doomed } => {
                for blob in (0..BLOBS).filter(|&blob| doomed[blob]) {
                    let mut doomed = doomed;
                    doomed[blob] = false;
                    let mut next = Self { remover: looked(batch, doomed), ..*self };
                    next.file[blob] = false;
                    steps.push(("the remover removes the bytes", next));
                }
            }
            Remover::Removed(batch) => {
                let mut next = Self { remover: Remover::Idle, ..*self };
                for blob in (0..BLOBS).filter(|&blob| batch[blob]) {
                    next.tombstones[blob] -= 1;
                }
                steps.push(("the remover clears the tombstones", next));
            }
        }
    }

    fn writer_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        let Writer::Wrote(namespace, blob) = self.writer else {
            for (namespace, blob) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                // A third tombstone for the same bytes would show nothing that two do not.
                let is_bounded = self.tombstones[blob] < 2;
                if !self.row[namespace][blob] && !self.is_locked(blob) && is_bounded {
                    let mut next = Self { writer: Writer::Wrote(namespace, blob), ..*self };
                    next.file[blob] = true;
                    steps.push(("bytes are written", next));
                }
            }
            return;
        };
        let mut next = Self { writer: Writer::Idle, ..*self };
        next.row[namespace][blob] = true;
        next.touch(namespace, blob);
        next.whole[namespace] |= next.row[namespace] == [true; BLOBS];
        steps.push(("the row is written", next));
        if let Some((of, kept)) = &mut next.lease
            && *of == namespace
        {
            kept[blob] = true;
            steps.push(("the row is written under the lease", next));
        }
    }

    fn client_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        let step = |name, change: &dyn Fn(&mut Self)| {
            let mut next = *self;
            change(&mut next);
            (name, next)
        };
        if self.image.is_some() {
            steps.push(step("the image is deleted", &|next| next.image = None));
        }
        for namespace in 0..NAMESPACES {
            if self.image.is_none() && self.row[namespace][0] {
                steps.push(step("an image is made", &|next| {
                    next.image = Some(namespace);
                    next.touch(namespace, 0);
                }));
            }
            if self.lease.is_none() {
                let lease = Some((namespace, [false; BLOBS]));
                steps.push(step("a lease is made", &|next| next.lease = lease));
            }
        }
        if let Some((namespace, kept)) = self.lease {
            steps.push(step("the lease is deleted", &|next| next.lease = None));
            for blob in (0..BLOBS).filter(|&blob| self.row[namespace][blob] && !kept[blob]) {
                let mut kept = kept;
                kept[blob] = true;
                steps.push(step("the lease is given a blob", &|next| {
                    next.lease = Some((namespace, kept));
                    next.touch(namespace, blob);
                }));
            }
        }
    }

    fn crashed(&self) -> Self {
        let mut next = *self;
        (next.writer, next.remover, next.collection) = (Writer::Idle, Remover::Idle, Collection::Idle);
        for blob in 0..BLOBS {
            if next.file[blob] && !next.is_owned(blob) && next.tombstones[blob] == 0 {
                next.tombstones[blob] = 1;
            }
        }
        next
    }

    fn marked(&self, grey: Rows) -> Self {
        let marked = self.reachable();
        Self { collection: sweeping(grey, marked, self.row), ..*self }
    }

    /// The same with the names of the namespaces exchanged.
    fn exchanged(&self) -> Self {
        let other = |namespace: usize| NAMESPACES - 1 - namespace;
        let mut next = *self;
        next.row.reverse();
        next.whole.reverse();
        next.image = self.image.map(other);
        next.lease = self.lease.map(|(namespace, kept)| (other(namespace), kept));
        if let Writer::Wrote(namespace, blob) = self.writer {
            next.writer = Writer::Wrote(other(namespace), blob);
        }
        match &mut next.collection {
            Collection::Idle => {}
            Collection::Gathering { grey } => grey.reverse(),
            Collection::Sweeping { grey, marked, left } => {
                grey.reverse();
                marked.reverse();
                left.reverse();
            }
        }
        next
    }
}

/// The locks are given back when the last bytes are gone.
fn looked(batch: [bool; BLOBS], doomed: [bool; BLOBS]) -> Remover {
    if doomed.contains(&true) { Remover::Looked { batch, doomed } } else { Remover::Removed(batch) }
}

/// Marks matter only for what is left: states that differ in nothing else are one.
fn sweeping(grey: Rows, mut marked: Rows, left: Rows) -> Collection {
    for (marks, left) in marked.iter_mut().flatten().zip(left.iter().flatten()) {
        *marks &= left;
    }
    Collection::Sweeping { grey, marked, left }
}

impl World for Store {
    /// Nothing tells the namespaces apart but their names.
    fn canonical(self) -> Self {
        self.min(self.exchanged())
    }

    fn steps(&self) -> Vec<(&'static str, Self)> {
        let mut steps = vec![("crash", self.crashed())];
        self.writer_steps(&mut steps);
        self.remover_steps(&mut steps);
        self.client_steps(&mut steps);
        match self.collection {
            Collection::Idle => {
                let gathering = Collection::Gathering { grey: [[false; BLOBS]; NAMESPACES] };
                steps.push(("a collection begins", Self { collection: gathering, ..*self }));
            }
            Collection::Gathering { grey } => steps.push(("a snapshot is marked", self.marked(grey))),
            Collection::Sweeping { .. } => steps.extend(self.sweep().map(|next| ("a batch is swept", next))),
        }
        steps
    }

    fn check(&self) -> Result<(), String> {
        for blob in 0..BLOBS {
            if self.is_owned(blob) && !self.file[blob] {
                return Err(format!("blob {blob} has a row and no bytes"));
            }
        }
        if self.image.is_some_and(|namespace| !self.row[namespace][0]) {
            return Err("what an image names was removed".to_owned());
        }
        if (0..NAMESPACES).any(|namespace| self.whole[namespace] && self.row[namespace] == [true, false]) {
            return Err("what was whole is not whole any more".to_owned());
        }
        let is_lost = |(namespace, kept): (usize, [bool; BLOBS])| {
            (0..BLOBS).any(|blob| kept[blob] && !self.row[namespace][blob])
        };
        if self.lease.is_some_and(is_lost) {
            return Err("what a lease keeps was removed".to_owned());
        }
        Ok(())
    }

    fn check_settled(&self) -> Result<(), String> {
        let mut world = self.crashed().marked([[false; BLOBS]; NAMESPACES]);
        let mut kept = world.reachable();
        for (kept, exists) in kept.iter_mut().flatten().zip(self.row.iter().flatten()) {
            *kept &= exists;
        }
        while let Some(next) = world.sweep() {
            world = next;
        }
        if world.row != kept {
            return Err("garbage stays, or what is kept goes".to_owned());
        }
        match (0..BLOBS)
            .find(|&blob| world.file[blob] && !world.is_owned(blob) && world.tombstones[blob] == 0)
        {
            Some(blob) => Err(format!("the bytes of blob {blob} are forgotten")),
            None => Ok(()),
        }
    }
}

#[test]
fn blobs_are_neither_lost_nor_forgotten_in_any_order_of_steps() {
    let states = explore(Store::EMPTY);
    println!("{states} states");
    assert!(states > 10_000, "{states} states prove little");
}
