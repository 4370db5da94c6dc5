//! What is reachable, by the rows of §3 alone and in the plainest way: sets and a fixed point.

use std::collections::{BTreeMap, BTreeSet};

use corten_types::Labels;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Blob,
    Snapshot,
    Image,
    Container,
    Lease,
    Ingest,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Blob, Self::Snapshot, Self::Image, Self::Container, Self::Lease, Self::Ingest];
}

pub(super) type Id = (Kind, String);

#[derive(Clone, Debug, Default)]
struct Thing {
    labels: Labels,
    /// The parent of a snapshot, the target of an image or ingest, the root of a container, the resources of a lease.
    names: Vec<Id>,
    /// It was unreachable once since it was made: a collection may have taken it.
    doubtful: bool,
}

impl Thing {
    fn has(&self, label: &str) -> bool {
        self.labels.contains_key(&format!("containerd.io/gc.{label}"))
    }

    /// Whether its time is over.
    fn is_over(&self) -> bool {
        self.labels.get("containerd.io/gc.expire").is_some_and(|time| time.starts_with("2001"))
    }

    /// What labels that begin with `gc.<prefix>` name.
    fn labelled(&self, prefix: &str) -> Vec<Id> {
        let mut found = Vec::new();
        for (word, kind) in [
            ("content", Kind::Blob),
            ("image", Kind::Image),
            ("container", Kind::Container),
            ("snapshot.memory", Kind::Snapshot),
        ] {
            let start = format!("containerd.io/gc.{prefix}.{word}");
            let entries =
                self.labels.iter().filter_map(|(key, value)| Some((key.strip_prefix(&start)?, value)));
            let named = entries.filter(|(rest, _)| rest.is_empty() || rest.starts_with(['.', '/']));
            found.extend(named.map(|(_, value)| (kind, value.clone())));
        }
        // G10, G14: only back references name containers.
        found.retain(|(kind, _)| prefix == "bref" || *kind != Kind::Container);
        found
    }
}

/// One namespace.
#[derive(Debug, Default)]
pub(super) struct Model {
    things: BTreeMap<Id, Thing>,
}

impl Model {
    pub(super) fn knows(&self, id: &Id) -> bool {
        self.things.contains_key(id)
    }

    pub(super) fn create(&mut self, id: Id, labels: Labels, names: Vec<Id>) {
        self.things.insert(id, Thing { labels, names, doubtful: false });
        self.changed();
    }

    pub(super) fn remove(&mut self, id: &Id) {
        self.things.remove(id);
        self.changed();
    }

    /// The store does not have it: that is right for what a collection may have taken, and for what never was.
    #[track_caller]
    pub(super) fn remove_doubtful(&mut self, id: &Id) {
        let gone = self.things.remove(id);
        assert!(gone.is_none_or(|thing| thing.doubtful), "{id:?} was reachable all the time and is gone");
        self.changed();
    }

    pub(super) fn relabel(&mut self, id: &Id, labels: Labels) {
        if let Some(thing) = self.things.get_mut(id) {
            thing.labels = labels;
        }
        self.changed();
    }

    pub(super) fn lease(&mut self, lease: &Id, target: &Id, takes: bool) {
        if let Some(thing) = self.things.get_mut(lease) {
            thing.names.retain(|name| name != target);
            if takes {
                thing.names.push(target.clone());
            }
        }
        self.changed();
    }

    /// Notes what is unreachable now.
    pub(super) fn changed(&mut self) {
        let (whole, flat) = self.reachable();
        for (id, thing) in &mut self.things {
            thing.doubtful |= !whole.contains(id) && !flat.contains(id);
        }
    }

    pub(super) fn certain(&self) -> Vec<Id> {
        self.things.iter().filter(|(_, thing)| !thing.doubtful).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn doubtful_and_reachable(&self) -> Vec<Id> {
        let (whole, flat) = self.reachable();
        let doubtful = self.things.iter().filter(|(_, thing)| thing.doubtful).map(|(id, _)| id);
        doubtful.filter(|id| whole.contains(*id) || flat.contains(*id)).cloned().collect()
    }

    /// They were there after they became reachable again.
    pub(super) fn trust(&mut self, ids: &[Id]) {
        for id in ids {
            if let Some(thing) = self.things.get_mut(id) {
                thing.doubtful = false;
            }
        }
    }

    /// What is kept with all that it refers to, and what is kept alone (G17).
    fn reachable(&self) -> (BTreeSet<Id>, BTreeSet<Id>) {
        let (mut whole, mut flat) = (BTreeSet::new(), BTreeSet::new());
        let mut pending: Vec<(Id, bool)> = Vec::new();
        for (id, thing) in &self.things {
            let is_root = match id.0 {
                Kind::Container | Kind::Ingest => true,
                Kind::Lease | Kind::Image => !thing.is_over(),
                Kind::Blob | Kind::Snapshot => thing.has("root"),
            };
            if is_root {
                pending.push((id.clone(), false));
            }
        }
        while let Some((id, is_flat)) = pending.pop() {
            let set = if is_flat { &mut flat } else { &mut whole };
            if !set.insert(id.clone()) {
                continue;
            }
            if !is_flat {
                // What names this thing as its keeper, whether this thing is there or not.
                let kept = self.things.iter().filter(|(_, thing)| thing.labelled("bref").contains(&id));
                pending.extend(kept.map(|(id, _)| (id.clone(), false)));
            }
            let Some(thing) = self.things.get(&id) else { continue };
            let keeps_flat = is_flat || (id.0 == Kind::Lease && thing.has("flat"));
            for name in &thing.names {
                let can_be_flat = name.0 != Kind::Ingest && (!is_flat || id.0 != Kind::Blob);
                pending.push((name.clone(), keeps_flat && can_be_flat));
            }
            if !is_flat && id.0 != Kind::Lease {
                pending.extend(thing.labelled("ref").into_iter().map(|id| (id, false)));
            }
        }
        (whole, flat)
    }

    /// What is there and reachable.
    pub(super) fn reachable_rows(&self) -> Vec<Id> {
        let (whole, flat) = self.reachable();
        self.things.keys().filter(|id| whole.contains(*id) || flat.contains(*id)).cloned().collect()
    }

    pub(super) fn count_of_reachable(&self, kind: Kind) -> usize {
        self.reachable_rows().iter().filter(|id| id.0 == kind).count()
    }

    pub(super) fn owned_blobs(&self) -> Vec<String> {
        self.reachable_rows().into_iter().filter(|id| id.0 == Kind::Blob).map(|id| id.1).collect()
    }

    /// What ingests are to become.
    pub(super) fn promised_blobs(&self) -> Vec<String> {
        let ingests = self.things.iter().filter(|(id, _)| id.0 == Kind::Ingest);
        ingests.flat_map(|(_, thing)| thing.names.iter().map(|id| id.1.clone())).collect()
    }
}
