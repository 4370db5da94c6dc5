//! Layers that are unpacked while they arrive.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use corten_content_store::{
    CommitOptions, Ingest, IngestCatalog, IngestFollower, IngestOptions, Ingester, LocalStore,
};
use corten_diff::{
    ApplyOptions, DifferOptions, EarlyApplier, WalkingDiffer,
    unpack::{Placed, TreeObserver, TreeSink},
};
use corten_disk::Disk;
use corten_types::{Descriptor, ErrorKind, Mount, Result};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use crate::{
    apply::{bind, gzip},
    layer::Layer,
    root_or_skip,
    store::digest_of,
    tree::names,
};

const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MODE: u32 = 0o2751;

/// Counts the trees of which it was told the end.
#[derive(Clone, Debug, Default)]
struct Finished(Arc<AtomicUsize>);

impl TreeObserver for Finished {
    fn observe(&self, _: &Path) -> Result<Option<Box<dyn TreeSink>>> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl TreeSink for Finished {
    fn put(&mut self, _: &[u8], _: Placed<'_>) {}

    fn remove(&mut self, _: &[u8]) {}

    fn finish(self: Box<Self>) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Scene {
    folder: tempfile::TempDir,
    store: LocalStore,
    differ: Arc<WalkingDiffer>,
    finished: Finished,
    ingest: Mutex<Option<Box<dyn Ingest>>>,
    plain: Vec<u8>,
    blob: Vec<u8>,
}

/// A layer that does not compress, so that its first half says something.
fn layer() -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(7);
    let mut layer = Layer::new().directory("d/").file("d/first", b"early");
    for number in 0..4 {
        let mut contents = vec![0; 2 << 20];
        random.fill_bytes(&mut contents);
        layer = layer.file(format!("d/f{number}"), &contents);
    }
    layer.symlink("l", "d").build()
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(MODE)).unwrap();
        let store = LocalStore::open(&folder.path().join("store"), Disk::new()).unwrap();
        let finished = Finished::default();
        let options = DifferOptions {
            observer: Some(Arc::new(finished.clone())),
            concurrency: 1,
            ..DifferOptions::default()
        };
        let differ = Arc::new(WalkingDiffer::new(folder.path().join("mounts"), options));
        let ingest = store.ingest("layer", IngestOptions::default()).await.unwrap();
        let plain = layer();
        let blob = gzip(&plain);
        Self { folder, store, differ, finished, ingest: Mutex::new(Some(ingest)), plain, blob }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn mode(&self) -> u32 {
        fs::metadata(self.root()).unwrap().permissions().mode() & 0o7777
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::new(OCI_GZIP, digest_of(&self.blob), self.blob.len() as u64)
    }

    fn ingest(&self) -> Box<dyn Ingest> {
        self.ingest.lock().unwrap().take().unwrap()
    }

    /// Begins to apply in the background.
    async fn begin(&self, descriptor: Descriptor, mounts: Vec<Mount>) -> JoinHandle<Result<Descriptor>> {
        let followed = self.store.follow("layer", descriptor.size_bytes).await.unwrap();
        let differ = Arc::clone(&self.differ);
        tokio::spawn(async move {
            differ.apply_early(followed, &descriptor, &mounts, ApplyOptions::default()).await
        })
    }

    /// Begins to apply, and writes the first half of the blob until the first file is there.
    async fn begin_half(&self, descriptor: Descriptor) -> (JoinHandle<Result<Descriptor>>, Box<dyn Ingest>) {
        let mut ingest = self.ingest();
        let applied = self.begin(descriptor, bind(&self.root())).await;
        ingest.write(self.blob[..self.blob.len() / 2].to_vec().into()).await.unwrap();
        eventually("the first file", || self.root().join("d/first").exists()).await;
        assert_eq!(self.mode(), 0o700);
        (applied, ingest)
    }

    async fn write_rest(&self, ingest: &mut dyn Ingest) {
        ingest.write(self.blob[self.blob.len() / 2..].to_vec().into()).await.unwrap();
    }

    fn assert_as_before(&self) {
        assert_eq!(names(&self.root()), Vec::<String>::new());
        assert_eq!(self.mode(), MODE);
        assert_eq!(self.finished.0.load(Ordering::Relaxed), 0, "nobody is told of what is not there");
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ended(applied: JoinHandle<Result<Descriptor>>) -> Result<Descriptor> {
    tokio::time::timeout(Duration::from_secs(60), applied).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_layer_is_unpacked_while_it_arrives_and_hidden_until_it_is_checked() {
    root_or_skip!();
    let scene = Scene::new().await;
    let (applied, mut ingest) = scene.begin_half(scene.descriptor()).await;
    scene.write_rest(&mut *ingest).await;
    eventually("the last file", || scene.root().join("l").is_symlink()).await;
    assert_eq!(scene.mode(), 0o700, "nobody has checked it yet");
    assert!(!applied.is_finished());
    ingest.commit(CommitOptions::default()).await.unwrap();
    let result = ended(applied).await.unwrap();
    assert_eq!((result.digest, result.size_bytes), (digest_of(&scene.plain), scene.plain.len() as u64));
    assert_eq!(scene.mode(), MODE);
    assert_eq!(names(&scene.root()), ["d", "d/f0", "d/f1", "d/f2", "d/f3", "d/first", "l"]);
    assert_eq!(scene.finished.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_blob_with_another_digest_leaves_nothing() {
    root_or_skip!();
    let scene = Scene::new().await;
    let descriptor = Descriptor { digest: digest_of(b"another"), ..scene.descriptor() };
    let (applied, mut ingest) = scene.begin_half(descriptor).await;
    scene.write_rest(&mut *ingest).await;
    ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(ended(applied).await.unwrap_err().kind(), ErrorKind::DataLoss);
    scene.assert_as_before();
}

#[tokio::test]
async fn an_ingest_that_becomes_no_blob_leaves_nothing() {
    root_or_skip!();
    for end in ["aborted", "dropped", "truncated", "refused"] {
        let scene = Scene::new().await;
        let (applied, mut ingest) = scene.begin_half(scene.descriptor()).await;
        match end {
            "aborted" => scene.store.abort("layer").await.unwrap(),
            "dropped" => drop(ingest),
            "truncated" => ingest.truncate().await.unwrap(),
            _ => {
                scene.write_rest(&mut *ingest).await;
                let wrong =
                    CommitOptions { expected: Some(digest_of(b"another")), ..CommitOptions::default() };
                ingest.commit(wrong).await.unwrap_err();
                drop(ingest);
            }
        }
        let error = ended(applied).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Aborted, "{end}: {}", error.chain());
        scene.assert_as_before();
    }
}

#[tokio::test]
async fn bytes_beyond_the_descriptors_size_are_not_read_and_make_another_blob() {
    root_or_skip!();
    let scene = Scene::new().await;
    let (applied, mut ingest) = scene.begin_half(scene.descriptor()).await;
    scene.write_rest(&mut *ingest).await;
    ingest.write("more".into()).await.unwrap();
    eventually("the last file", || scene.root().join("l").is_symlink()).await;
    ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(ended(applied).await.unwrap_err().kind(), ErrorKind::DataLoss);
    scene.assert_as_before();

    drop(ingest);
    let mut descriptor = scene.descriptor();
    descriptor.size_bytes += 1;
    let mut ingest = scene.store.ingest("layer", IngestOptions::default()).await.unwrap();
    let applied = scene.begin(descriptor, bind(&scene.root())).await;
    ingest.write(scene.blob.clone().into()).await.unwrap();
    ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(ended(applied).await.unwrap_err().kind(), ErrorKind::DataLoss, "it is too short");
    scene.assert_as_before();
}

#[tokio::test]
async fn an_archive_that_is_refused_does_not_wait_for_its_end() {
    root_or_skip!();
    let scene = Scene::new().await;
    let mut ingest = scene.ingest();
    let refused = Layer::new().file("first", b"x").file(".wh..", b"").file("second", &[1; 100_000]).build();
    let descriptor = Descriptor::new(
        "application/vnd.oci.image.layer.v1.tar",
        digest_of(&refused),
        refused.len() as u64 + (1 << 30),
    );
    let applied = scene.begin(descriptor, bind(&scene.root())).await;
    // Whole buffers go through the pipeline: enough of them come, and then nothing.
    ingest.write(refused.into()).await.unwrap();
    ingest.write(vec![0; 1 << 20].into()).await.unwrap();
    let error = ended(applied).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
    scene.assert_as_before();
}

#[tokio::test]
async fn a_dropped_call_empties_the_folder_and_gives_its_place_to_the_next() {
    root_or_skip!();
    let scene = Scene::new().await;
    let (applied, mut ingest) = scene.begin_half(scene.descriptor()).await;
    applied.abort();
    eventually("the end", || scene.mode() == MODE).await;
    scene.assert_as_before();
    scene.write_rest(&mut *ingest).await;
    let again = scene.begin(scene.descriptor(), bind(&scene.root())).await;
    ingest.commit(CommitOptions::default()).await.unwrap();
    ended(again).await.unwrap();
    assert_eq!(scene.mode(), MODE);
}

#[tokio::test]
async fn only_an_empty_folder_behind_one_mount_is_unpacked_into() {
    root_or_skip!();
    let scene = Scene::new().await;
    let mounted = vec![bind(&scene.root()).remove(0), bind(&scene.root()).remove(0)];
    let applied = scene.begin(scene.descriptor(), mounted).await;
    assert_eq!(ended(applied).await.unwrap_err().kind(), ErrorKind::Unimplemented);
    fs::File::create(scene.root().join("before")).unwrap();
    let applied = scene.begin(scene.descriptor(), bind(&scene.root())).await;
    assert_eq!(ended(applied).await.unwrap_err().kind(), ErrorKind::Unimplemented);
    assert_eq!((names(&scene.root()), scene.mode()), (vec!["before".to_owned()], MODE));
    let followed = scene.store.follow("layer", 5).await.unwrap();
    let (descriptor, mounts) = (scene.descriptor(), bind(&scene.root()));
    let applied = scene.differ.apply_early(followed, &descriptor, &mounts, ApplyOptions::default());
    assert_eq!(applied.await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
