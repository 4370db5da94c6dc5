//! A client that stacks snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use corten_filter::Filters;
use corten_mount::TemporaryMount;
use corten_proxy::SnapshotterProxy;
use corten_snapshotter::{Kind, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::{Labels, Mount, Result};
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

use crate::{
    Client,
    ledger::Ledger,
    session::{Session, kept},
};

/// A file that each layer replaces.
const LAST: &str = "last";

pub(crate) struct Snapshots {
    snapshotter: &'static str,
    /// Where snapshots are mounted.
    folder: PathBuf,
    random: StdRng,
    step: u64,
    /// Kind, parent and labels.
    ledger: Ledger<(Kind, String, Labels)>,
    /// The file that a step wrote into its snapshot.
    written: BTreeMap<u64, Vec<u8>>,
    /// The commit that was not acknowledged.
    committing: Option<u64>,
    /// What was made since the last check.
    fresh: BTreeSet<u64>,
}

impl Snapshots {
    pub(crate) fn new(snapshotter: &'static str, scratch: &Path, random: StdRng) -> Self {
        let folder = scratch.join(format!("mounts-{snapshotter}"));
        fs::create_dir(&folder).unwrap();
        Self {
            snapshotter,
            folder,
            random,
            step: 0,
            ledger: Ledger::new(),
            written: BTreeMap::new(),
            committing: None,
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
        self.written.insert(step, bytes);
        Ok(())
    }

    async fn commit(&mut self, store: &SnapshotterProxy, step: u64) -> Result<()> {
        let (key, name, labels) = (active(step), layer(step), kept(step));
        let (_, parent, _) = self.ledger.get(&key).unwrap().clone();
        self.ledger.attempt(&key, None);
        self.ledger.attempt(&name, Some((Kind::Committed, parent, labels.clone())));
        self.committing = Some(step);
        store.commit(&name, &key, labels, None).await?;
        self.committing = None;
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

    /// Looks whether every file of a snapshot and of those below is there, and no other.
    fn compare(&self, step: u64, parent: &str, mounts: &[Mount]) {
        let mut steps = vec![step];
        let mut below = parent.to_owned();
        while !below.is_empty() {
            steps.push(below.strip_prefix("layer-").unwrap().parse().unwrap());
            below = self.ledger.get(&below).unwrap_or_else(|| panic!("{below} is not there")).1.clone();
        }
        let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for step in steps.iter().rev() {
            if let Some(bytes) = self.written.get(step) {
                expected.insert(file(*step), bytes.clone());
                expected.insert(LAST.to_owned(), file(*step).into_bytes());
            }
        }
        let mount = TemporaryMount::new(mounts, &self.folder).unwrap();
        let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in fs::read_dir(mount.path()).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
        mount.close().unwrap();
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>().join(", ");
        assert_eq!(names(&found), names(&expected), "snapshot of step {step}");
        assert!(found == expected, "a file of the snapshot of step {step} has other bytes");
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

    async fn check(&mut self, session: &Session, all: bool) {
        let store = session.snapshots(self.snapshotter);
        let found = store.list(&Filters::all(), None, usize::MAX).await.unwrap();
        let found =
            found.into_iter().map(|info| (info.name, (info.kind, info.parent, info.labels))).collect();
        self.ledger.settle("snapshot", found);
        if let Some(step) = self.committing.take() {
            let is_there = |name: String| self.ledger.get(&name).is_some();
            assert!(is_there(active(step)) != is_there(layer(step)), "step {step} is active or committed");
        }
        let fresh = std::mem::take(&mut self.fresh);
        let wanted = |step: &u64| all || fresh.contains(step);
        for step in self.those(Kind::Active).into_iter().filter(wanted) {
            let parent = self.ledger.get(&active(step)).unwrap().1.clone();
            self.compare(step, &parent, &store.mounts(&active(step)).await.unwrap());
        }
        for step in self.those(Kind::Committed).into_iter().filter(wanted) {
            let parent = self.ledger.get(&layer(step)).unwrap().1.clone();
            let mounts = store.view("look", &layer(step), kept(step)).await.unwrap();
            self.compare(step, &parent, &mounts);
            store.remove("look").await.unwrap();
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
}
