//! Random creations, deletions, leases and labels against collections that never stop: what is reachable is never
//! collected, and in the end everything else is (G07-G21).

mod model;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use corten_content_store::{BlobReader, BlobWriter, IngestCatalog, IngestOptions, Ingester};
use corten_filter::Filters;
use corten_metadata::{Container, Image, Metadata, Resource, Runtime, View};
use corten_snapshotter::{SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::{Digest, ErrorKind, Labels, Result, UpdateMask};

use self::model::{Id, Kind, Model};
use crate::support::{Fixture, any, descriptor, put, sha256};

/// Operations of one run.
const STEPS: usize = 250;

const BLOBS: [&[u8]; 6] = [b"blob 0", b"blob 1", b"blob 2", b"blob 3", b"blob 4", b"blob 5"];
const PAST: &str = "2001-01-01T00:00:00Z";
const FUTURE: &str = "2999-01-01T00:00:00Z";
/// The lease that new things are made under, so that they are there when the next operation names them.
const WORK: &str = "work";

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

fn id_of(kind: Kind, number: usize) -> Id {
    let name = match kind {
        Kind::Blob => sha256(BLOBS[number]).to_string(),
        Kind::Snapshot => format!("snapshot{number}"),
        Kind::Image => format!("localhost/image:{number}"),
        Kind::Container => format!("container{number}"),
        Kind::Lease => format!("lease{number}"),
        Kind::Ingest => format!("ingest{number}"),
    };
    (kind, name)
}

fn any_id(dice: &mut Dice, kind: Kind) -> Id {
    let count = if kind == Kind::Blob { BLOBS.len() } else { 4 };
    id_of(kind, dice.below(count))
}

/// Every label of the collector, with and without names after it, and some that only look like one.
fn any_labels(dice: &mut Dice, of: Kind) -> Labels {
    let mut labels = Labels::new();
    // Leases refer by their resources, and nothing keeps them but themselves.
    let references = if of == Kind::Lease { 0 } else { dice.below(3) };
    for _ in 0..references {
        let (key, target) = match dice.below(9) {
            0 => ("gc.ref.content", Kind::Blob),
            1 => ("gc.ref.content.layer.1", Kind::Blob),
            2 => ("gc.ref.content/config", Kind::Blob),
            3 => ("gc.ref.contentX", Kind::Blob),
            4 => ("gc.ref.snapshot.memory/top", Kind::Snapshot),
            5 => ("gc.ref.image", Kind::Image),
            6 => ("gc.bref.container", Kind::Container),
            7 => ("gc.bref.image.user", Kind::Image),
            _ => ("gc.bref.snapshot.memory", Kind::Snapshot),
        };
        labels.insert(format!("containerd.io/{key}"), any_id(dice, target).1);
    }
    if matches!(of, Kind::Blob | Kind::Snapshot) && dice.one_in(5) {
        labels.insert("containerd.io/gc.root".to_owned(), "x".to_owned());
    }
    if matches!(of, Kind::Image | Kind::Lease) && dice.one_in(2) {
        let time = if dice.one_in(2) { PAST } else { FUTURE };
        labels.insert("containerd.io/gc.expire".to_owned(), time.to_owned());
    }
    if of == Kind::Lease && dice.one_in(2) {
        labels.insert("containerd.io/gc.flat".to_owned(), "x".to_owned());
    }
    labels
}

struct Run {
    view: View,
    leased: View,
    model: Model,
    dice: Dice,
}

impl Run {
    async fn begin(fixture: &Fixture, seed: u64) -> Self {
        let namespace = format!("ns{}", seed % 2);
        let view = fixture.view(&namespace);
        view.leases().create(Some(WORK), Labels::new()).await.unwrap();
        let leased = fixture.leased(&namespace, WORK);
        Self { view, leased, model: Model::default(), dice: Dice(seed) }
    }

    async fn exists(&self, (kind, name): &Id) -> bool {
        let found = match kind {
            Kind::Blob => self.view.content().info(&name.parse().unwrap()).await.map(drop),
            Kind::Snapshot => self.view.snapshots("memory").unwrap().stat(name).await.map(drop),
            Kind::Image => self.view.images().get(name).await.map(drop),
            Kind::Container => self.view.containers().get(name).await.map(drop),
            Kind::Lease => self.view.leases().list_resources(name).await.map(drop),
            Kind::Ingest => self.view.content().ingest_status(name).await.map(drop),
        };
        assert!(found.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::NotFound), "{found:?}");
        found.is_ok()
    }

    /// What is reachable again after it was not is there or not: only the store knows.
    async fn settle(&mut self) {
        loop {
            let doubtful = self.model.doubtful_and_reachable();
            let mut lost = Vec::new();
            for id in &doubtful {
                if !self.exists(id).await {
                    lost.push(id.clone());
                }
            }
            if lost.is_empty() {
                self.model.trust(&doubtful);
                return;
            }
            lost.iter().for_each(|id| self.model.remove(id));
        }
    }

    async fn check(&self, what: &str) {
        for id in self.model.certain() {
            assert!(self.exists(&id).await, "{what}: {id:?} was reachable and is gone\n{:#?}", self.model);
        }
    }

    async fn step(&mut self) {
        match self.dice.below(12) {
            0 | 1 => self.put_blob().await,
            2 => self.make_snapshot().await,
            3 => self.make_image().await,
            4 => self.make_container().await,
            5 => self.make_lease().await,
            6 => self.lease_something().await,
            7 => self.open_ingest().await,
            8 | 9 => self.change_labels().await,
            _ => self.delete_something().await,
        }
        self.settle().await;
    }

    async fn release(&mut self, kind: &str, id: &str) {
        let resource = Resource { kind: kind.to_owned(), id: id.to_owned() };
        self.view.leases().delete_resource(WORK, &resource).await.unwrap();
    }

    async fn put_blob(&mut self) {
        let bytes = BLOBS[self.dice.below(BLOBS.len())];
        let labels = any_labels(&mut self.dice, Kind::Blob);
        let id = (Kind::Blob, sha256(bytes).to_string());
        match put(&self.leased.content(), bytes, labels.clone()).await {
            Ok(_) => self.model.create(id.clone(), labels, Vec::new()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
        }
        self.release("content", &id.1).await;
        self.model.changed();
    }

    async fn make_snapshot(&mut self) {
        let (id, parent) = (any_id(&mut self.dice, Kind::Snapshot), any_id(&mut self.dice, Kind::Snapshot));
        let stands = self.dice.one_in(2) && self.model.knows(&parent) && id != parent;
        let parent_name = if stands { parent.1.as_str() } else { "" };
        let labels = any_labels(&mut self.dice, Kind::Snapshot);
        let snapshots = self.leased.snapshots("memory").unwrap();
        let result: Result<()> = async {
            snapshots.prepare("draft", parent_name, Labels::new()).await?;
            snapshots.commit(&id.1, "draft", labels.clone(), None).await
        }
        .await;
        match result {
            Ok(()) => {
                let below = if stands { vec![parent] } else { Vec::new() };
                self.model.create(id.clone(), labels, below);
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound), "{error:?}");
                let _ = snapshots.remove("draft").await;
            }
        }
        self.release("snapshots/memory", "draft").await;
        self.release("snapshots/memory", &id.1).await;
        self.model.changed();
    }

    async fn make_image(&mut self) {
        let (id, target) = (any_id(&mut self.dice, Kind::Image), any_id(&mut self.dice, Kind::Blob));
        let digest: Digest = target.1.parse().unwrap();
        let mut image = Image::new(id.1.clone(), descriptor(&digest));
        image.labels = any_labels(&mut self.dice, Kind::Image);
        let labels = image.labels.clone();
        match self.view.images().create(image, None).await {
            Ok(_) => self.model.create(id, labels, vec![target]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
        }
    }

    async fn make_container(&mut self) {
        let (id, root) = (any_id(&mut self.dice, Kind::Container), any_id(&mut self.dice, Kind::Snapshot));
        let labels = any_labels(&mut self.dice, Kind::Container);
        let container = Container {
            id: id.1.clone(),
            labels: labels.clone(),
            runtime: Runtime { name: "runc".to_owned(), options: None },
            spec: Some(any("spec")),
            snapshotter: "memory".to_owned(),
            snapshot_key: root.1.clone(),
            ..Container::default()
        };
        match self.view.containers().create(container).await {
            Ok(_) => self.model.create(id, labels, vec![root]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
        }
    }

    async fn make_lease(&mut self) {
        let id = any_id(&mut self.dice, Kind::Lease);
        let labels = any_labels(&mut self.dice, Kind::Lease);
        match self.view.leases().create(Some(&id.1), labels.clone()).await {
            Ok(_) => self.model.create(id, labels, Vec::new()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
        }
    }

    async fn lease_something(&mut self) {
        let lease = any_id(&mut self.dice, Kind::Lease);
        let (kind, word) = [
            (Kind::Blob, "content"),
            (Kind::Snapshot, "snapshots/memory"),
            (Kind::Image, "images"),
            (Kind::Ingest, "ingests"),
        ][self.dice.below(4)];
        let target = any_id(&mut self.dice, kind);
        let resource = Resource { kind: word.to_owned(), id: target.1.clone() };
        let takes = !self.dice.one_in(4);
        let leases = self.view.leases();
        let result = if takes {
            leases.add_resource(&lease.1, &resource).await
        } else {
            leases.delete_resource(&lease.1, &resource).await
        };
        match result {
            Ok(()) => self.model.lease(&lease, &target, takes),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                self.model.remove_doubtful(&lease);
            }
        }
    }

    /// It lives for a day, and keeps the blob that it was promised.
    async fn open_ingest(&mut self) {
        let (id, target) = (any_id(&mut self.dice, Kind::Ingest), any_id(&mut self.dice, Kind::Blob));
        if self.model.knows(&id) {
            return;
        }
        let options = IngestOptions { expected: target.1.parse().ok(), ..IngestOptions::default() };
        match self.view.content().ingest(&id.1, options).await {
            Ok(ingest) => {
                drop(ingest);
                self.model.create(id, Labels::new(), vec![target]);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
        }
    }

    async fn change_labels(&mut self) {
        let kind = [Kind::Blob, Kind::Snapshot, Kind::Image, Kind::Container][self.dice.below(4)];
        let id = any_id(&mut self.dice, kind);
        if !self.model.knows(&id) {
            return;
        }
        let new = any_labels(&mut self.dice, kind);
        let only = UpdateMask::of(["labels"]);
        let result = match kind {
            Kind::Blob => {
                let content = self.view.content();
                content.update(&id.1.parse().unwrap(), &new, &UpdateMask::replace_all()).await.map(drop)
            }
            Kind::Snapshot => {
                let snapshots = self.view.snapshots("memory").unwrap();
                snapshots.update(&id.1, &new, &UpdateMask::replace_all()).await.map(drop)
            }
            Kind::Image => {
                let mut image = Image::new(id.1.clone(), descriptor(&sha256(b"any")));
                image.labels = new.clone();
                self.view.images().update(image, &only, None).await.map(drop)
            }
            _ => {
                let container = Container { id: id.1.clone(), labels: new.clone(), ..Container::default() };
                self.view.containers().update(container, &only).await.map(drop)
            }
        };
        match result {
            Ok(()) => self.model.relabel(&id, new),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                self.model.remove_doubtful(&id);
            }
        }
    }

    async fn delete_something(&mut self) {
        let kind = Kind::ALL[self.dice.below(Kind::ALL.len())];
        let id = any_id(&mut self.dice, kind);
        let name = id.1.as_str();
        let result = match kind {
            Kind::Blob => self.view.content().delete(&name.parse().unwrap()).await,
            Kind::Snapshot => self.view.snapshots("memory").unwrap().remove(name).await,
            Kind::Image => self.view.images().delete(name, None).await,
            Kind::Container => self.view.containers().delete(name).await,
            Kind::Lease => self.view.leases().delete(name).await,
            Kind::Ingest => self.view.content().abort(name).await,
        };
        match result {
            Ok(()) => self.model.remove(&id),
            // Others stand on it.
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                self.model.remove_doubtful(&id);
            }
        }
    }

    /// After a collection beside nobody there is what is reachable, and nothing else.
    async fn check_end(&self, what: &str) {
        let wanted = self.model.reachable_rows();
        let mut there = Vec::new();
        let all = Filters::all();
        let blobs = self.view.content().list(&all, None, 100).await.unwrap();
        there.extend(blobs.into_iter().map(|blob| (Kind::Blob, blob.digest.to_string())));
        let snapshots = self.view.snapshots("memory").unwrap().list(&all, None, 100).await.unwrap();
        there.extend(snapshots.into_iter().map(|snapshot| (Kind::Snapshot, snapshot.name)));
        let images = self.view.images().list(&all, None, 100).await.unwrap();
        there.extend(images.into_iter().map(|image| (Kind::Image, image.name)));
        let containers = self.view.containers().list(&all, None, 100).await.unwrap();
        there.extend(containers.into_iter().map(|container| (Kind::Container, container.id)));
        let leases = self.view.leases().list(&all, None, 100).await.unwrap();
        there.extend(leases.into_iter().map(|lease| (Kind::Lease, lease.id)).filter(|(_, id)| id != WORK));
        let ingests = self.view.content().list_ingests(&all).await.unwrap();
        there.extend(ingests.into_iter().map(|ingest| (Kind::Ingest, ingest.key)));
        there.sort();
        assert_eq!(there, wanted, "{what}: rows after the last collection\n{:#?}", self.model);
    }
}

async fn collect_for_ever(metadata: Metadata, stop: Arc<AtomicBool>) -> usize {
    let mut collections = 0;
    while !stop.load(Ordering::Relaxed) {
        metadata.collect().await.unwrap();
        collections += 1;
        tokio::task::yield_now().await;
    }
    collections
}

/// Two namespaces that share blobs, each with a run of its own, beside collections.
async fn run(seed: u64) {
    let fixture = Fixture::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let collector = tokio::spawn(collect_for_ever(fixture.metadata.clone(), stop.clone()));
    let mut runs = Vec::new();
    for seed in [2 * seed, 2 * seed + 1] {
        let mut run = Run::begin(&fixture, seed).await;
        runs.push(tokio::spawn(async move {
            for step in 0..STEPS {
                run.step().await;
                run.check(&format!("seed {seed}, step {step}")).await;
            }
            run
        }));
    }
    let mut ended = Vec::new();
    for run in runs {
        ended.push(run.await.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    assert!(collector.await.unwrap() > 10, "too few collections ran to prove anything");
    fixture.metadata.collect().await.unwrap();
    let below = fixture.content.list(&Filters::all(), None, 100).await.unwrap();
    let below: Vec<String> = below.into_iter().map(|blob| blob.digest.to_string()).collect();
    let (mut owned, mut promised) = (Vec::new(), Vec::new());
    for run in &ended {
        run.check_end(&format!("seed {seed}")).await;
        owned.extend(run.model.owned_blobs());
        promised.extend(run.model.promised_blobs());
    }
    assert!(owned.iter().all(|digest| below.contains(digest)), "seed {seed}: bytes of rows are gone");
    // An ingest keeps the bytes that it was promised only if they were there then.
    let is_needed = |digest: &&String| owned.contains(digest) || promised.contains(digest);
    assert_eq!(
        below.iter().find(|digest| !is_needed(digest)),
        None,
        "seed {seed}: bytes that nobody needs are left"
    );
    let rows = ended.iter().map(|run| run.model.count_of_reachable(Kind::Snapshot)).sum::<usize>();
    assert_eq!(fixture.snapshotter.names().len(), rows, "seed {seed}: trees after the last collection");
}

/// The seeds, or the one that a person wants to see again.
fn seeds() -> Vec<u64> {
    match std::env::var("CORTEN_MODEL_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..6).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whatever_clients_do_beside_collections_only_what_is_unreachable_goes_and_all_of_it() {
    for seed in seeds() {
        run(seed).await;
    }
}
