//! A client that stacks snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use corten_filter::Filters;
use corten_mount::TemporaryMount;
use corten_proxy::SnapshotterProxy;
use corten_snapshotter::{Kind, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::{Labels, Mount, Result};
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

use super::{Client, Depth};
use crate::{
    ledger::{Clock, Ledger},
    session::{Session, kept},
};

/// A file that each layer replaces.
const LAST: &str = "last";

/// How many trees of each kind are looked at after a power cut: what is older was looked at after other cuts.
const NEWEST: usize = 6;

pub(crate) struct Snapshots {
    snapshotter: &'static str,
    /// Where snapshots are mounted.
    folder: PathBuf,
    random: StdRng,
    step: u64,
    /// Kind, parent and labels.
    ledger: Ledger<(Kind, String, Labels)>,
    /// The file that a step wrote into its snapshot.
    written: BTreeMap<u64, Arc<Vec<u8>>>,
    /// What was made since the last check.
    fresh: BTreeSet<u64>,
}

impl Snapshots {
    pub(crate) fn new(snapshotter: &'static str, scratch: &Path, random: StdRng, clock: &Clock) -> Self {
        let folder = scratch.join(format!("mounts-{snapshotter}"));
        fs::create_dir_all(&folder).unwrap();
        Self {
            snapshotter,
            folder,
            random,
            step: 0,
            ledger: Ledger::new(clock),
            written: BTreeMap::new(),
            fresh: BTreeSet::new(),
        }
    }

    /// On a layer, or on nothing.
    async fn prepare(&mut self, store: &SnapshotterProxy) -> Result<u64> {
        self.step += 1;
        let parents = self.those(Kind::Committed);
        let parent = parents.choose(&mut self.random).filter(|_| self.random.random_ratio(3, 4));
        let parent = parent.map(|step| layer(*step)).unwrap_or_default();
        let (key, labels) = (active(self.step), kept(self.step));
        self.ledger.attempt(&key, Some((Kind::Active, parent.clone(), labels.clone())));
        store.prepare(&key, &parent, labels).await?;
        self.ledger.acknowledged(&key);
        self.fresh.insert(self.step);
        Ok(self.step)
    }

    async fn fill(&mut self, store: &SnapshotterProxy, step: u64) -> Result<()> {
        let mounts = store.mounts(&active(step)).await?;
        let mut bytes = vec![0; self.random.random_range(0..60_000)];
        self.random.fill_bytes(&mut bytes);
        let mount = TemporaryMount::new(&mounts, &self.folder)?;
        fs::write(mount.path().join(file(step)), &bytes).unwrap();
        fs::write(mount.path().join(LAST), file(step)).unwrap();
        mount.close()?;
        self.written.insert(step, Arc::new(bytes));
        Ok(())
    }

    async fn commit(&mut self, store: &SnapshotterProxy, step: u64) -> Result<()> {
        let (key, name, labels) = (active(step), layer(step), kept(step));
        let (_, parent, _) = self.ledger.get(&key).unwrap().clone();
        self.ledger.attempt(&key, None);
        self.ledger.attempt(&name, Some((Kind::Committed, parent, labels.clone())));
        store.commit(&name, &key, labels, None).await?;
        self.ledger.acknowledged(&key);
        self.ledger.acknowledged(&name);
        self.fresh.insert(step);
        Ok(())
    }

    async fn remove(&mut self, store: &SnapshotterProxy, key: &str) -> Result<()> {
        self.ledger.attempt(key, None);
        store.remove(key).await?;
        self.ledger.acknowledged(key);
        Ok(())
    }

    /// The steps whose snapshots are of this kind.
    fn those(&self, kind: Kind) -> Vec<u64> {
        let name = if kind == Kind::Active { active } else { layer };
        (1..=self.step).filter(|step| self.ledger.get(&name(*step)).is_some()).collect()
    }

    /// What nothing stands on.
    fn tops(&self) -> Vec<String> {
        let all = self.ledger.all();
        let parents: BTreeSet<_> = all.iter().map(|(_, (_, parent, _))| parent.clone()).collect();
        all.into_iter().map(|(key, _)| key).filter(|key| !parents.contains(key)).collect()
    }

    /// The files of a committed snapshot and of those below it, or of none.
    fn tree(&self, mut name: String) -> BTreeMap<String, Arc<Vec<u8>>> {
        let mut steps = Vec::new();
        while !name.is_empty() {
            steps.push(name.strip_prefix("layer-").unwrap().parse().unwrap());
            name = self.ledger.get(&name).unwrap_or_else(|| panic!("{name} is not there")).1.clone();
        }
        let mut files = BTreeMap::new();
        for step in steps.into_iter().rev() {
            self.write_over(&mut files, step);
        }
        files
    }

    /// What a step wrote.
    fn write_over(&self, files: &mut BTreeMap<String, Arc<Vec<u8>>>, step: u64) {
        if let Some(bytes) = self.written.get(&step) {
            files.insert(file(step), Arc::clone(bytes));
            files.insert(LAST.to_owned(), Arc::new(file(step).into_bytes()));
        }
    }

    fn read(&self, mounts: &[Mount]) -> BTreeMap<String, Arc<Vec<u8>>> {
        let mount = TemporaryMount::new(mounts, &self.folder).unwrap();
        let entries = fs::read_dir(mount.path()).unwrap().map(Result::unwrap);
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, Arc::new(fs::read(entry.path()).unwrap()))
        };
        let files = entries.map(read).collect();
        mount.close().unwrap();
        files
    }

    /// Whether every file of a committed snapshot and of those below is there, and no other.
    async fn check_layer(&self, store: &SnapshotterProxy, step: u64) {
        let mounts = store.view("look", &layer(step), kept(step)).await.unwrap();
        compare(step, &self.read(&mounts), &self.tree(layer(step)));
        store.remove("look").await.unwrap();
    }

    /// The same for an active one. What was written there and never synced may be gone after a power cut, and only that.
    async fn check_active(&self, store: &SnapshotterProxy, step: u64, cut: bool) {
        let mut found = self.read(&store.mounts(&active(step)).await.unwrap());
        let below = self.tree(self.ledger.get(&active(step)).unwrap().1.clone());
        let mut expected = below.clone();
        self.write_over(&mut expected, step);
        if cut && self.written.contains_key(&step) {
            expected.remove(&file(step));
            found.remove(&file(step));
            expected.remove(LAST);
            assert!(found.remove(LAST).is_some() || !below.contains_key(LAST), "{LAST} is gone");
        }
        compare(step, &found, &expected);
    }

    /// Those whose trees are looked at.
    fn looked_at(&self, kind: Kind, depth: Depth, fresh: &BTreeSet<u64>) -> Vec<u64> {
        let mut steps = self.those(kind);
        match depth {
            Depth::All => {}
            Depth::Fresh => steps.retain(|step| fresh.contains(step)),
            Depth::Cut => drop(steps.drain(..steps.len().saturating_sub(NEWEST))),
        }
        steps
    }
}

fn compare(step: u64, found: &BTreeMap<String, Arc<Vec<u8>>>, expected: &BTreeMap<String, Arc<Vec<u8>>>) {
    let names = |files: &BTreeMap<String, Arc<Vec<u8>>>| files.keys().cloned().collect::<Vec<_>>().join(", ");
    assert_eq!(names(found), names(expected), "snapshot of step {step}");
    for (name, bytes) in found {
        let wrong = format!("{name} of the snapshot of step {step} has {} other bytes", bytes.len());
        assert!(*bytes == expected[name], "{wrong}");
    }
}

fn active(step: u64) -> String {
    format!("active-{step}")
}

fn layer(step: u64) -> String {
    format!("layer-{step}")
}

fn file(step: u64) -> String {
    format!("file-{step}")
}

#[async_trait]
impl Client for Snapshots {
    fn namespace(&self) -> String {
        format!("snapshots-{}", self.snapshotter)
    }

    fn acknowledged(&self) -> u64 {
        self.ledger.acknowledged
    }

    async fn step(&mut self, session: &Session) -> Result<()> {
        let store = session.snapshots(self.snapshotter);
        match self.random.random_range(0..10) {
            0..6 => {
                let step = self.prepare(&store).await?;
                self.fill(&store, step).await?;
                self.commit(&store, step).await
            }
            6 => self.prepare(&store).await.map(drop),
            7..9 => match self.those(Kind::Active).choose(&mut self.random) {
                Some(step) => self.commit(&store, *step).await,
                None => Ok(()),
            },
            _ => match self.tops().choose(&mut self.random) {
                Some(key) => self.remove(&store, key).await,
                None => Ok(()),
            },
        }
    }

    async fn check(&mut self, session: &Session, depth: Depth) {
        let store = session.snapshots(self.snapshotter);
        // A check that was cut short leaves it.
        drop(store.remove("look").await);
        let found = store.list(&Filters::all(), None, usize::MAX).await.unwrap();
        let found =
            found.into_iter().map(|info| (info.name, (info.kind, info.parent, info.labels))).collect();
        let both_open =
            |step: &u64| self.ledger.is_open(&active(*step)) && self.ledger.is_open(&layer(*step));
        let commits: Vec<u64> = (1..=self.step).filter(both_open).collect();
        self.ledger.settle("snapshot", found);
        for step in commits {
            let is_there = |name: String| self.ledger.get(&name).is_some();
            assert!(is_there(active(step)) != is_there(layer(step)), "step {step} is active or committed");
        }
        let fresh = std::mem::take(&mut self.fresh);
        for step in self.looked_at(Kind::Active, depth, &fresh) {
            self.check_active(&store, step, depth == Depth::Cut).await;
        }
        for step in self.looked_at(Kind::Committed, depth, &fresh) {
            self.check_layer(&store, step).await;
        }
    }

    async fn clear(&mut self, session: &Session) {
        let store = session.snapshots(self.snapshotter);
        loop {
            let tops = self.tops();
            if tops.is_empty() {
                break;
            }
            for key in tops {
                self.remove(&store, &key).await.unwrap();
            }
        }
    }
    fn at(&self, position: u64) -> Box<dyn Client> {
        Box::new(Self {
            snapshotter: self.snapshotter,
            folder: self.folder.clone(),
            random: self.random.clone(),
            step: self.step,
            ledger: self.ledger.at(position),
            written: self.written.clone(),
            fresh: BTreeSet::new(),
        })
    }

    fn acknowledged_at(&self) -> Vec<u64> {
        self.ledger.acknowledged_at()
    }
}
