//! `ctr`, which imports images, unpacks and deletes them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use corten_api::containerd::services::images::v1::{ListImagesRequest, images_client::ImagesClient};
use corten_content_store::IngestCatalog;
use corten_filter::Filters;
use corten_mount::TemporaryMount;
use corten_snapshotter::{Kind, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_tests::{Ctr, Image};
use corten_types::{Error, Labels, Result};
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

use super::{Client, Depth};
use crate::{
    ledger::{Clock, Ledger},
    session::{Session, read_all},
};

const NAMESPACE: &str = "imports";
const SNAPSHOTTER: &str = "overlayfs";

/// How many trees are looked at after a power cut.
const NEWEST: usize = 4;

/// How long to wait between two looks whether `ctr` has ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

type Tree = BTreeMap<String, Vec<u8>>;

pub(crate) struct Imports {
    /// Where archives are made, and snapshots mounted.
    folder: PathBuf,
    random: StdRng,
    step: u64,
    /// Each with the digest of its manifest.
    images: Ledger<String>,
    /// What an image is made of.
    blobs: Ledger<()>,
    /// Committed ones, by their names.
    snapshots: Ledger<()>,
    /// What is in each.
    trees: BTreeMap<String, Arc<Tree>>,
    made: BTreeMap<String, Arc<Image>>,
}

impl Imports {
    pub(crate) fn new(scratch: &Path, random: StdRng, clock: &Clock) -> Self {
        let folder = scratch.join("imports");
        fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            random,
            step: 0,
            images: Ledger::new(clock),
            blobs: Ledger::new(clock),
            snapshots: Ledger::new(clock),
            trees: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// An image that nobody made before, of up to three layers with up to 20 files each.
    fn make(&mut self) -> Arc<Image> {
        let mut layers = Vec::new();
        for layer in 0..self.random.random_range(1..=3) {
            let count = self.random.random_range(1..=20);
            let file = |number: u64| {
                let most = if number == 0 { 400_000 } else { 20_000 };
                let mut bytes = vec![0; self.random.random_range(8..most)];
                self.random.fill_bytes(&mut bytes);
                (format!("file-{layer}-{number}"), bytes)
            };
            let mut files: Tree = (0..count).map(file).collect();
            files.insert("last".to_owned(), format!("{}-{layer}", self.step).into_bytes());
            layers.push(files);
        }
        let name = format!("localhost/import:{}", self.step);
        let image = Arc::new(Image::of_files(&self.folder, &name, &layers).unwrap());
        let mut tree = Tree::new();
        for (files, snapshot) in layers.into_iter().zip(&image.chain) {
            tree.extend(files);
            self.trees.insert(snapshot.clone(), Arc::new(tree.clone()));
        }
        self.made.insert(name, Arc::clone(&image));
        image
    }

    async fn import(&mut self, session: &Session) -> Result<()> {
        let image = self.make();
        self.images.attempt(&image.name, Some(image.manifest.clone()));
        for digest in blobs_of(&image) {
            self.blobs.attempt(digest, Some(()));
        }
        for snapshot in &image.chain {
            self.snapshots.attempt(snapshot, Some(()));
        }
        let archive = image.archive.to_str().unwrap().to_owned();
        let result = ctr(session, &["images", "import", "--snapshotter", SNAPSHOTTER, &archive]).await;
        fs::remove_file(&image.archive).unwrap();
        result?;
        self.images.acknowledged(&image.name);
        for digest in blobs_of(&image) {
            self.blobs.acknowledged(digest);
        }
        for snapshot in &image.chain {
            self.snapshots.acknowledged(snapshot);
        }
        Ok(())
    }

    async fn delete(&mut self, session: &Session, name: &str) -> Result<()> {
        let image = Arc::clone(&self.made[name]);
        blobs_of(&image).for_each(|digest| self.blobs.release(digest));
        image.chain.iter().for_each(|snapshot| self.snapshots.release(snapshot));
        self.images.attempt(name, None);
        ctr(session, &["images", "rm", "--sync", name]).await?;
        self.images.acknowledged(name);
        blobs_of(&image).for_each(|digest| self.blobs.gone(digest));
        image.chain.iter().for_each(|snapshot| self.snapshots.gone(snapshot));
        Ok(())
    }

    fn step_of(&self, snapshot: &String) -> u64 {
        let made = self.made.iter().find(|(_, image)| image.chain.contains(snapshot));
        made.map_or(0, |(name, _)| name.rsplit(':').next().unwrap().parse().unwrap())
    }

    /// Whether every blob of an image that is there is there.
    fn assert_whole(&self) {
        for (name, _) in self.images.seen() {
            for digest in blobs_of(&self.made[name]) {
                assert!(self.blobs.seen().any(|(seen, ())| seen == digest), "{name} has lost {digest}");
            }
        }
    }

    /// Ends what calls of `ctr` that were cut short hold. What only they held may go then.
    async fn end_leases(&mut self, session: &Session, cut_short: &[String]) {
        for name in cut_short {
            let image = Arc::clone(&self.made[name]);
            image.chain.iter().for_each(|snapshot| self.snapshots.release(snapshot));
            if self.images.get(name).is_none() {
                blobs_of(&image).for_each(|digest| self.blobs.release(digest));
            }
        }
        for lease in session.leases().await.into_keys() {
            session.delete_lease(&lease, false).await.unwrap();
        }
    }
}

fn blobs_of(image: &Image) -> impl Iterator<Item = &String> {
    image.layers.iter().chain([&image.config, &image.manifest])
}

/// Runs `ctr` to its end, or to that of the daemon: it waits for another one, and that is to find nobody at work.
async fn ctr(session: &Session, arguments: &[&str]) -> Result<()> {
    let ctr = Ctr::new(session.socket().to_owned(), NAMESPACE.to_owned());
    let mut command = ctr.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let socket = session.socket().to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if UnixStream::connect(&socket).is_err() {
                child.kill().unwrap();
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(Error::unavailable(said)) }
}

fn read(folder: &Path) -> Tree {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[async_trait]
impl Client for Imports {
    fn namespace(&self) -> String {
        NAMESPACE.to_owned()
    }

    fn acknowledged(&self) -> u64 {
        self.images.acknowledged + self.blobs.acknowledged + self.snapshots.acknowledged
    }

    async fn step(&mut self, session: &Session) -> Result<()> {
        self.step += 1;
        match self.images.all().choose(&mut self.random).cloned() {
            Some((name, _)) if self.random.random_ratio(1, 4) => self.delete(session, &name).await,
            _ => self.import(session).await,
        }
    }

    async fn check(&mut self, session: &Session, depth: Depth) {
        let request = session.request(ListImagesRequest::default());
        let images = ImagesClient::new(session.channel()).list(request).await.unwrap().into_inner().images;
        let images = images.into_iter().map(|image| (image.name, image.target.unwrap().digest)).collect();
        let cut_short: Vec<String> =
            self.made.keys().filter(|name| self.images.is_open(name)).cloned().collect();
        self.images.settle("image", images);
        // The index of an archive is a blob for as long as the import takes.
        let is_ours =
            |digest: &String| self.made.values().any(|image| blobs_of(image).any(|ours| ours == digest));
        let blobs = read_all(&session.content()).await.into_keys().filter(is_ours);
        let blobs = blobs.map(|digest| (digest, ())).collect();
        self.blobs.settle("blob", blobs);
        let snapshots = session.snapshots(SNAPSHOTTER);
        // A check that was cut short leaves it.
        drop(snapshots.remove("look").await);
        let found = snapshots.list(&Filters::all(), None, usize::MAX).await.unwrap();
        let committed = found.into_iter().filter(|info| info.kind == Kind::Committed);
        let committed: Vec<String> = committed.map(|info| info.name).collect();
        self.snapshots.settle("snapshot", committed.iter().map(|name| (name.clone(), ())).collect());
        self.assert_whole();

        // The newest steps have the newest trees.
        let is_there = |name: &&String| committed.contains(name);
        let newest = self.made.values().flat_map(|image| &image.chain).filter(is_there);
        let mut newest: Vec<&String> = newest.collect();
        if depth != Depth::All {
            newest.sort_by_key(|name| self.step_of(name));
            newest.drain(..newest.len().saturating_sub(NEWEST));
        }
        for name in newest {
            let labels: Labels = [("containerd.io/gc.root".to_owned(), "look".to_owned())].into();
            let mounts = snapshots.view("look", name, labels).await.unwrap();
            let mount = TemporaryMount::new(&mounts, &self.folder).unwrap();
            let tree = read(mount.path());
            mount.close().unwrap();
            assert!(tree == *self.trees[name], "{name} has other files");
            snapshots.remove("look").await.unwrap();
        }
        self.end_leases(session, &cut_short).await;
    }

    async fn clear(&mut self, session: &Session) {
        for (name, _) in self.images.all() {
            self.delete(session, &name).await.unwrap();
        }
        // What an import that was cut short left begun.
        let store = session.content();
        for status in store.list_ingests(&Filters::all()).await.unwrap() {
            // The collector is after it, too.
            drop(store.abort(&status.key).await);
        }
    }

    fn at(&self, position: u64) -> Box<dyn Client> {
        Box::new(Self {
            folder: self.folder.clone(),
            random: self.random.clone(),
            step: self.step,
            images: self.images.at(position),
            blobs: self.blobs.at(position),
            snapshots: self.snapshots.at(position),
            trees: self.trees.clone(),
            made: self.made.clone(),
        })
    }

    fn acknowledged_at(&self) -> Vec<u64> {
        self.images.acknowledged_at()
    }
}
