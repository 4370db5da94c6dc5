//! One name of things that others look after: its row, the things that it had, and who makes, ends and collects them.

use super::{World, explore};

const NUMBERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Thing {
    None,
    /// Half made, or broken by a reboot.
    Part,
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    number: usize,
    finished: bool,
    leased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Maker {
    Idle,
    Making(usize),
    Made(usize),
    Failed(usize),
}

impl Maker {
    /// Only while a thing is made or undone is the remover kept from it.
    fn works_on(self, wanted: usize) -> bool {
        matches!(self, Self::Making(number) if number == wanted)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Collection {
    Idle,
    Gathering { grey: bool },
    Sweeping { grey: bool, kept: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Store {
    row: Option<Row>,
    /// How many numbers were given.
    given: usize,
    things: [Thing; NUMBERS],
    tombstones: [bool; NUMBERS],
    maker: Maker,
    collection: Collection,
    /// The number of a thing that somebody was told of under a lease, and that nobody ended since.
    promised: Option<usize>,
}

impl Store {
    const EMPTY: Self = Self {
        row: None,
        given: 0,
        things: [Thing::None; NUMBERS],
        tombstones: [false; NUMBERS],
        maker: Maker::Idle,
        collection: Collection::Idle,
        promised: None,
    };

    fn touch(&mut self) {
        if let Collection::Gathering { grey } | Collection::Sweeping { grey, .. } = &mut self.collection {
            *grey = true;
        }
    }

    fn remove_row(&mut self) {
        if let Some(row) = self.row.take() {
            self.tombstones[row.number] = true;
        }
    }

    fn maker_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        let mut next = *self;
        next.maker = Maker::Idle;
        match self.maker {
            Maker::Idle if self.row.is_none_or(|row| !row.finished) && self.given < NUMBERS => {
                for leased in [false, true] {
                    let mut next = *self;
                    next.remove_row();
                    next.row = Some(Row { number: self.given, finished: false, leased });
                    next.maker = Maker::Making(self.given);
                    next.given += 1;
                    next.touch();
                    steps.push(("a thing is begun", next));
                }
            }
            Maker::Idle => {}
            Maker::Making(number) => {
                next.things[number] = Thing::Whole;
                next.maker = Maker::Made(number);
                steps.push(("the thing is made", next));
                for left in [Thing::None, Thing::Part] {
                    next.things[number] = left;
                    next.maker = Maker::Failed(number);
                    steps.push(("the thing cannot be made", next));
                }
            }
            Maker::Made(number) => match &mut next.row {
                Some(row) if row.number == number => {
                    row.finished = true;
                    next.promised = row.leased.then_some(number);
                    next.touch();
                    steps.push(("the thing is finished", next));
                }
                _ => {
                    next.things[number] = Thing::None;
                    steps.push(("the row is gone, the thing is undone", next));
                    next.things[number] = self.things[number];
                    steps.push(("the row is gone, the thing cannot be undone", next));
                }
            },
            Maker::Failed(number) => {
                steps.push(("a failure is not written down", next));
                if self.row.is_some_and(|row| row.number == number) {
                    next.remove_row();
                }
                steps.push(("a failure is written down", next));
            }
        }
    }

    fn client_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        let mut next = *self;
        next.promised = None;
        if let Some(row) = &mut next.row {
            row.leased = false;
            steps.push(("the lease is deleted", next));
        }
        if self.row.is_some() {
            next.remove_row();
            steps.push(("the namespace is deleted", next));
            if self.maker == Maker::Idle {
                steps.push(("the thing is ended", next));
            }
        }
    }

    fn remover_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        for number in (0..NUMBERS).filter(|&number| self.tombstones[number] && !self.maker.works_on(number)) {
            let mut next = *self;
            next.tombstones[number] = false;
            if self.row.is_none_or(|row| row.number != number) {
                next.things[number] = Thing::None;
            }
            steps.push(("the remover removes a thing", next));
        }
    }

    fn marked(&self, grey: bool) -> Self {
        let collection = match self.row {
            Some(row) => Collection::Sweeping { grey, kept: row.leased || !row.finished },
            None => Collection::Idle,
        };
        Self { collection, ..*self }
    }

    fn swept(&self, grey: bool, kept: bool) -> Self {
        let mut next = Self { collection: Collection::Idle, ..*self };
        if !grey && !kept {
            next.remove_row();
        }
        next
    }

    /// A crash of the program and the next opening.
    fn crashed(&self) -> Self {
        let mut next = Self { maker: Maker::Idle, collection: Collection::Idle, ..*self };
        if next.row.is_some_and(|row| !row.finished || next.things[row.number] != Thing::Whole) {
            next.remove_row();
        }
        for number in 0..NUMBERS {
            let owned = next.row.is_some_and(|row| row.number == number);
            next.tombstones[number] |= !owned && next.things[number] != Thing::None;
        }
        next
    }

    /// The machine begins anew: with its folders, or without.
    fn rebooted(&self, left: Thing) -> Self {
        let things = self.things.map(|thing| if thing == Thing::None { Thing::None } else { left });
        Self { things, promised: None, ..*self }.crashed()
    }
}

impl World for Store {
    fn steps(&self) -> Vec<(&'static str, Self)> {
        let mut steps = vec![
            ("crash", self.crashed()),
            ("reboot", self.rebooted(Thing::None)),
            ("reboot with the folders", self.rebooted(Thing::Part)),
        ];
        self.maker_steps(&mut steps);
        self.client_steps(&mut steps);
        self.remover_steps(&mut steps);
        steps.push(match self.collection {
            Collection::Idle => {
                let gathering = Collection::Gathering { grey: false };
                ("a collection begins", Self { collection: gathering, ..*self })
            }
            Collection::Gathering { grey } => ("the name is marked", self.marked(grey)),
            Collection::Sweeping { grey, kept } => ("the name is swept", self.swept(grey, kept)),
        });
        steps
    }

    fn check(&self) -> Result<(), String> {
        if let Some(row) = self.row {
            if row.finished && self.things[row.number] != Thing::Whole {
                return Err("a finished thing is not whole".to_owned());
            }
            if self.tombstones[row.number] {
                return Err("what a row has is to be removed".to_owned());
            }
        }
        if let Some(number) = self.promised
            && self.row.is_none_or(|row| row.number != number || !row.finished)
        {
            return Err(format!("{number} was promised and is gone"));
        }
        Ok(())
    }

    fn check_settled(&self) -> Result<(), String> {
        let opened = self.crashed();
        opened.check()?;
        let Collection::Sweeping { grey, kept } = opened.marked(false).collection else {
            return all_removed(opened, None);
        };
        let row = opened.row.ok_or("a name without a row was marked")?;
        all_removed(opened.swept(grey, kept), row.leased.then_some(row.number))
    }
}

/// After the remover only the thing that is kept is there.
fn all_removed(mut world: Store, kept: Option<usize>) -> Result<(), String> {
    loop {
        let mut steps = Vec::new();
        world.remover_steps(&mut steps);
        let Some((_, next)) = steps.pop() else { break };
        world = next;
    }
    for (number, thing) in world.things.into_iter().enumerate() {
        if (thing != Thing::None) != (kept == Some(number)) {
            return Err(format!("{number} is garbage and stays, or is kept and goes"));
        }
    }
    Ok(())
}

#[test]
fn things_are_neither_lost_nor_forgotten_in_any_order_of_steps() {
    let states = explore(Store::EMPTY);
    assert!(states > 2_000, "{states} states prove little");
}
