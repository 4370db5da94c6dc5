//! A small store: two namespaces, images that were unpacked, containers, leases, an ingest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use corten_content_store::{BlobReader, CommitOptions, Hasher, IngestOptions, Ingester, LocalStore};
use corten_diff::unpack::{UnpackOptions, unpack};
use corten_disk::Disk;
use corten_filter::Filters;
use corten_fsck::{Finding, Layout, Report, Request, Scope, SnapshotterLayout, Store, Summary, check, run};
use corten_metadata::{Container, Image, Metadata, Options, Resource, Runtime, View};
use corten_snapshotter::{
    Inspector, SnapshotWriter,
    manifest::{Entry, RecordTrees, checksum},
};
use corten_snapshotter_overlay::OverlaySnapshotter;
use corten_types::{Algorithm, Any, Descriptor, Digest, Labels, Result};
use serde_json::json;
use tempfile::TempDir;

/// The snapshotter of all images.
pub(crate) const OVERLAY: &str = "overlayfs";

/// A root that a test may damage; it goes with the value.
pub(crate) struct World {
    pub(crate) root: TempDir,
}

/// Everything that a daemon has open.
pub(crate) struct Served {
    pub(crate) metadata: Metadata,
    pub(crate) content: LocalStore,
    pub(crate) snapshotter: OverlaySnapshotter,
}

/// Fast where there is memory for it: nothing here has to survive a power cut.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("corten-fsck-");
        builder
    };
    builder().tempdir_in(memory).or_else(|_| builder().tempdir()).unwrap()
}

impl World {
    /// A store that was closed well.
    pub(crate) async fn new() -> Self {
        let world = Self { root: scratch() };
        let served = world.serve().await.unwrap();
        populate(&served).await;
        served.close().await;
        world
    }

    /// Two copies of the same store: one that was closed well, and one as it is when the process dies.
    pub(crate) async fn closed_and_crashed() -> (Self, Self) {
        let world = Self { root: scratch() };
        let served = world.serve().await.unwrap();
        populate(&served).await;
        served.close().await;
        // What is committed from here on is in the logs only.
        let served = world.serve().await.unwrap();
        image(&served, "two", "localhost/late:1", &["late"]).await;
        let crashed = world.copy();
        served.close().await;
        (world, crashed)
    }

    pub(crate) fn copy(&self) -> Self {
        let root = scratch();
        let from = self.root.path().join(".");
        let copied = Command::new("cp").arg("-a").arg(from).arg(root.path()).status().unwrap();
        assert!(copied.success());
        for reserve in ["meta/meta.db.reserve", "overlayfs/metastore.db.reserve"] {
            // Room for a full disk: made again at the next open, and dear to copy.
            let _ = fs::remove_file(root.path().join(reserve));
        }
        Self { root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.path("content/blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout {
            content: self.path("content"),
            metadata: self.path("meta/meta.db"),
            snapshotters: vec![SnapshotterLayout {
                name: OVERLAY.to_owned(),
                root: self.path("overlayfs"),
                files: "fs",
            }],
            bundles: Some(self.path("bundles")),
        }
    }

    /// Opens everything as the daemon does.
    pub(crate) async fn serve(&self) -> Result<Served> {
        let disk = Disk::new();
        fs::create_dir_all(self.path("meta")).unwrap();
        let root = self.path("overlayfs");
        let options = corten_snapshotter_overlay::Options::default();
        let snapshotter = OverlaySnapshotter::open(&root, options)?;
        let content = LocalStore::open(&self.path("content"), disk)?;
        let mut options = Options::new(self.path("meta/meta.db"), Arc::new(content.clone()));
        options.automatic = false;
        options.folders = vec![root, self.path("content")];
        options.doubts = snapshotter.inspector().quarantine().into_iter().collect();
        options.snapshotters.insert(OVERLAY.to_owned(), Arc::new(snapshotter.clone()));
        let metadata = Metadata::open(options).await?;
        Ok(Served { metadata, content, snapshotter })
    }

    /// Everything is looked at; nothing is changed.
    pub(crate) async fn check(&self) -> Result<Report> {
        let store = Store::open(self.layout()).await?;
        let report = check(&store, &Scope::default(), &mut |_| {}).await;
        store.close().await?;
        report
    }

    pub(crate) async fn fsck(&self, request: &Request) -> Result<Summary> {
        let store = Store::open(self.layout()).await?;
        let summary = run(&store, request, &mut |_| {}).await;
        store.close().await?;
        summary
    }

    /// Names and contents of blobs and of the files of snapshots.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for name in ["content/blobs", "overlayfs/snapshots", "content/ingest"] {
            walk(&self.path(name), &mut files);
        }
        files.retain(|path, _| !path.components().any(|part| part.as_os_str() == "work"));
        files
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(self.root.path()).unwrap().to_owned(), bytes))
            .collect()
    }
}

impl Served {
    pub(crate) fn view(&self, namespace: &str) -> View {
        self.metadata.view(namespace.parse().unwrap(), None)
    }

    pub(crate) async fn close(self) {
        self.metadata.close().await.unwrap();
        self.snapshotter.close().await.unwrap();
    }

    pub(crate) fn inspector(&self) -> Inspector {
        self.snapshotter.inspector()
    }
}

fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
}

async fn populate(served: &Served) {
    image(served, "one", "localhost/base:1", &["base", "app"]).await;
    image(served, "two", "localhost/base:1", &["base", "app"]).await;
    image(served, "one", "localhost/other:1", &["base", "other"]).await;
    let one = served.view("one");
    let snapshots = one.snapshots(OVERLAY).unwrap();
    let top = chain(&["base", "app"]).pop().unwrap();
    snapshots.prepare("box", &top, Labels::new()).await.unwrap();
    let container = Container {
        id: "box".to_owned(),
        image: "localhost/base:1".to_owned(),
        runtime: Runtime { name: "io.containerd.runc.v2".to_owned(), options: None },
        spec: Some(Any { type_url: "spec".to_owned(), value: vec![b'{'; 5000].into() }),
        snapshotter: OVERLAY.to_owned(),
        snapshot_key: "box".to_owned(),
        ..Container::default()
    };
    one.containers().create(container).await.unwrap();
    one.leases().create(Some("kept"), Labels::new()).await.unwrap();
    let kept = put(&one, b"kept by a lease", Labels::new()).await;
    let resource = Resource { kind: "content".to_owned(), id: kept.to_string() };
    one.leases().add_resource("kept", &resource).await.unwrap();
    let mut ingest = one.content().ingest("half", IngestOptions::default()).await.unwrap();
    ingest.write(vec![7; 20_000].into()).await.unwrap();
    // Enough rows for several pages.
    for number in 0..40 {
        let target = Descriptor::new("application/octet-stream", kept.clone(), 15);
        one.images().create(Image::new(format!("localhost/many:{number}"), target), None).await.unwrap();
    }
}

/// The digest of a layer's bytes, which are as they are.
fn layer(name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in contents(name) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn contents(name: &str) -> Vec<(String, Vec<u8>)> {
    let file = |number: usize| {
        let bytes = name.bytes().cycle().take(300 * (number + 1)).collect();
        (format!("{name}-{number}"), bytes)
    };
    (0..4).map(file).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

/// The names of the snapshots of an image.
pub(crate) fn chain(layers: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in layers {
        let id = digest(&layer(name)).to_string();
        let next = match names.last() {
            None => id,
            Some(below) => digest(format!("{below} {id}").as_bytes()).to_string(),
        };
        names.push(next);
    }
    names
}

/// What a client that pulls does: blobs with their labels, the image, its layers unpacked.
pub(crate) async fn image(served: &Served, namespace: &str, name: &str, layers: &[&str]) {
    let view = served.view(namespace);
    let ids: Vec<Digest> = layers.iter().map(|name| digest(&layer(name))).collect();
    let mut labels = Labels::new();
    for (at, name) in layers.iter().enumerate() {
        let bytes = layer(name);
        let uncompressed = ("containerd.io/uncompressed".to_owned(), ids[at].to_string());
        put(&view, &bytes, Labels::from([uncompressed])).await;
        labels.insert(format!("containerd.io/gc.ref.content.l.{at}"), ids[at].to_string());
    }
    let names = chain(layers);
    let diff_ids: Vec<&str> = ids.iter().map(Digest::as_str).collect();
    let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let snapshot = (format!("containerd.io/gc.ref.snapshot.{OVERLAY}"), names.last().unwrap().clone());
    let config = put(&view, config.to_string().as_bytes(), Labels::from([snapshot])).await;
    labels.insert("containerd.io/gc.ref.content.config".to_owned(), config.to_string());
    let parts: Vec<_> = ids.iter().map(|id| json!({ "digest": id.as_str() })).collect();
    let manifest = json!({ "config": { "digest": config.as_str() }, "layers": parts }).to_string();
    let target = put(&view, manifest.as_bytes(), labels).await;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let target = Descriptor::new(media_type, target, manifest.len() as u64);
    match view.images().create(Image::new(name, target), None).await {
        Err(error) if error.kind() == corten_types::ErrorKind::AlreadyExists => {}
        created => drop(created.unwrap()),
    }
    let snapshots = view.snapshots(OVERLAY).unwrap();
    let mut parent = String::new();
    for (at, name) in layers.iter().enumerate() {
        if corten_snapshotter::SnapshotReader::stat(&snapshots, &names[at]).await.is_err() {
            let key = format!("unpack-{namespace}-{at}");
            let mounts = snapshots.prepare(&key, &parent, Labels::new()).await.unwrap();
            unpack_recorded(served, &mounts, name);
            snapshots.commit(&names[at], &key, Labels::new(), None).await.unwrap();
        }
        parent.clone_from(&names[at]);
    }
}

/// Unpacks a layer into the upper folder, with a manifest.
fn unpack_recorded(served: &Served, mounts: &[corten_types::Mount], name: &str) {
    let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir="));
    let tree = PathBuf::from(upper.unwrap_or(&mounts[0].source));
    let mut recorder =
        served.snapshotter.record(&tree).unwrap().expect("an empty active snapshot is recorded");
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    unpack(layer(name).as_slice(), &tree, &options).unwrap();
    for (path, bytes) in contents(name) {
        let entry = Entry::File { size_bytes: bytes.len() as u64, checksum: checksum(0, &bytes) };
        recorder.put(path.as_bytes(), entry);
    }
    recorder.finish().unwrap();
}

/// Stores a blob in a namespace.
pub(crate) async fn put(view: &View, bytes: &[u8], labels: Labels) -> Digest {
    let wanted = digest(bytes);
    let options = IngestOptions { expected: Some(wanted.clone()), ..IngestOptions::default() };
    let mut ingest = match view.content().ingest(&format!("put-{}", wanted.hex()), options).await {
        Err(error) if error.kind() == corten_types::ErrorKind::AlreadyExists => return wanted,
        ingest => ingest.unwrap(),
    };
    if ingest.status().offset_bytes == 0 {
        ingest.write(bytes.to_vec().into()).await.unwrap();
    }
    ingest.commit(CommitOptions { labels, ..CommitOptions::default() }).await.unwrap();
    wanted
}

/// The digests that a namespace has.
pub(crate) async fn digests(view: &View) -> Vec<Digest> {
    let found = view.content().list(&Filters::all(), None, 1000).await.unwrap();
    found.into_iter().map(|info| info.digest).collect()
}

/// The kinds and things of all damage.
pub(crate) fn damage(report: &Report) -> Vec<String> {
    report.findings.iter().filter(|finding| finding.is_open_damage()).map(Finding::to_string).collect()
}
