//! The disk is full: what makes room works, everything else is refused and changes nothing.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use corten_api::{
    containerd::services::{
        containers::v1::{
            Container, CreateContainerRequest, DeleteContainerRequest, ListContainersRequest,
            UpdateContainerRequest, container::Runtime, containers_client::ContainersClient,
        },
        images::v1::{
            CreateImageRequest, DeleteImageRequest, Image, ListImagesRequest, UpdateImageRequest,
            images_client::ImagesClient,
        },
        leases::v1::{AddResourceRequest, ListRequest, Resource, leases_client::LeasesClient},
        namespaces::v1::{
            CreateNamespaceRequest, ListNamespacesRequest, Namespace, UpdateNamespaceRequest,
            namespaces_client::NamespacesClient,
        },
        tasks::v1::{CreateTaskRequest, tasks_client::TasksClient},
    },
    containerd::types::Descriptor as WireDescriptor,
    grpc::from_status,
};
use corten_content_store::{BlobReader, BlobWriter, IngestCatalog, IngestOptions, Ingester};
use corten_diff::{Applier, ApplyOptions};
use corten_filter::Filters;
use corten_mount::TemporaryMount;
use corten_proxy::{ContentProxy, DiffProxy, Scope};
use corten_snapshotter::{SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_tests::{Daemon, DaemonOptions, Ext4, Kind, eventually, root_or_skip};
use corten_types::{Descriptor, ErrorKind, Labels, Result, UpdateMask};
use prost_types::Any;

use crate::{
    cuts::leave_mounts_to_the_kernel,
    session::{Session, commit_options, kept, sha256, write},
};

const DISK_BYTES: u64 = 96 << 20;
const PART_BYTES: usize = 4 << 20;
const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// A daemon on a small disk of its own.
struct Small {
    daemon: Daemon,
    mounted: Ext4,
    disk: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Small {
    fn new(options: &[&str]) -> Self {
        leave_mounts_to_the_kernel();
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        let (image, disk) = (scratch.path().join("image"), scratch.path().join("disk"));
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        Ext4::format(&image, &[&["-m", "0"], options].concat()).unwrap();
        std::fs::create_dir(&disk).unwrap();
        let mounted = Ext4::mount(&image, &disk).unwrap();
        let daemon = Daemon::start_with(DaemonOptions {
            kind: Kind::Corten,
            root: Some(disk.join("root")),
            ..DaemonOptions::default()
        });
        Self { daemon: daemon.unwrap(), mounted, disk, _scratch: scratch }
    }

    fn free_bytes(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.disk).unwrap();
        space.f_bavail * space.f_frsize
    }

    /// Takes every block that is left.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.disk.join("ballast")).unwrap();
        // What was put aside for writes that were on their way comes back with a sync.
        for _ in 0..10 {
            for length in [1 << 20, 4096, 1] {
                while file.write_all(&vec![0; length]).is_ok() {}
            }
            rustix::fs::syncfs(&file).unwrap();
            if self.free_bytes() == 0 {
                break;
            }
        }
        assert_eq!(self.free_bytes(), 0, "the disk is not full");
    }

    fn reserves(&self) -> Vec<PathBuf> {
        let root = self.disk.join("root");
        let metadata = root.join("io.containerd.metadata.v1.bolt/meta.db.reserve");
        let folder =
            |name: &str| root.join(format!("io.containerd.snapshotter.v1.{name}/metastore.db.reserve"));
        SNAPSHOTTERS.into_iter().map(folder).chain([metadata]).collect()
    }

    /// Gives the ballast back and waits until deletions have room again for the next time.
    fn empty(&self) {
        std::fs::remove_file(self.disk.join("ballast")).unwrap();
        eventually("the reserves to be made again", || {
            self.reserves().iter().all(|reserve| reserve.exists()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {} bytes are free", self.free_bytes()));
    }

    fn finish(self) {
        self.daemon.finish().unwrap();
        self.mounted.unmount().unwrap();
    }
}

/// To be made after the disk, so that its threads live with the same mounts.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Everything that a client can list.
async fn listing(session: &Session) -> Vec<String> {
    let mut lines = Vec::new();
    let channel = session.channel();
    let request = session.request(ListImagesRequest::default());
    let images = ImagesClient::new(channel.clone()).list(request).await.unwrap().into_inner().images;
    lines.extend(images.iter().map(|image| format!("{image:?}")));
    let request = session.request(ListContainersRequest::default());
    let listed = ContainersClient::new(channel.clone()).list(request).await.unwrap();
    lines.extend(listed.into_inner().containers.iter().map(|container| format!("{container:?}")));
    let request = session.request(ListNamespacesRequest::default());
    let listed = NamespacesClient::new(channel.clone()).list(request).await.unwrap();
    lines.extend(listed.into_inner().namespaces.iter().map(|namespace| format!("{namespace:?}")));
    let listed = LeasesClient::new(channel).list(session.request(ListRequest::default())).await.unwrap();
    lines.extend(listed.into_inner().leases.iter().map(|lease| format!("{lease:?}")));
    let store = session.content();
    for info in store.list(&Filters::all(), None, usize::MAX).await.unwrap() {
        lines.push(format!("{info:?}"));
    }
    for status in store.list_ingests(&Filters::all()).await.unwrap() {
        lines.push(format!("ingest {} {} {:?}", status.key, status.offset_bytes, status.total_bytes));
    }
    for snapshotter in SNAPSHOTTERS {
        let snapshots = session.snapshots(snapshotter);
        for info in snapshots.list(&Filters::all(), None, usize::MAX).await.unwrap() {
            lines.push(format!("{snapshotter} {info:?}"));
        }
    }
    lines
}

fn part(number: u8) -> Vec<u8> {
    let mut bytes = vec![number; PART_BYTES];
    bytes[0] = !number;
    bytes
}

async fn put(store: &ContentProxy, key: &str, bytes: &[u8], labels: Labels) -> Result<()> {
    let mut ingest = write(store, key, bytes, bytes.len()).await?;
    ingest.commit(commit_options(bytes, labels)).await.map(drop)
}

fn image(name: &str, bytes: &[u8], labels: &[(&str, &str)]) -> Image {
    let target = WireDescriptor {
        media_type: "application/octet-stream".to_owned(),
        digest: sha256(bytes).to_string(),
        size: i64::try_from(bytes.len()).unwrap(),
        ..WireDescriptor::default()
    };
    let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Image { name: name.to_owned(), target: Some(target), labels, ..Image::default() }
}

async fn create_image(session: &Session, image: Image) -> Result<()> {
    let request = session.request(CreateImageRequest { image: Some(image), ..Default::default() });
    ImagesClient::new(session.channel()).create(request).await.map(drop).map_err(from_status)
}

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
        spec: Some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
            value:
                br#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["true"],"cwd":"/"}}"#
                    .to_vec(),
        }),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: format!("rootfs-{id}"),
        ..Container::default()
    }
}

async fn create_container(session: &Session, container: Container) -> Result<()> {
    let request = session.request(CreateContainerRequest { container: Some(container) });
    ContainersClient::new(session.channel()).create(request).await.map(drop).map_err(from_status)
}

/// A container with a snapshot that only it holds.
async fn fill_snapshot(session: &Session, id: &str, folder: &Path) {
    let snapshots = session.snapshots("overlayfs");
    let mounts = snapshots.prepare(&format!("rootfs-{id}"), "", Labels::new()).await.unwrap();
    let mount = TemporaryMount::new(&mounts, folder).unwrap();
    std::fs::write(mount.path().join("file"), part(9)).unwrap();
    mount.close().unwrap();
}

/// What there is before the disk fills: an image, a container and a lease hold some megabytes each.
async fn settle_in(session: &Session, folder: &Path) {
    let lease = "holder";
    session.create_lease(lease).await.unwrap();
    put(&session.content_under(lease), "leased", &part(1), Labels::new()).await.unwrap();
    put(&session.content(), "of-image", &part(2), Labels::new()).await.unwrap();
    create_image(session, image("localhost/full:1", &part(2), &[])).await.unwrap();
    put(&session.content(), "kept", &layer(), kept(0)).await.unwrap();
    create_container(session, container("one")).await.unwrap();
    fill_snapshot(session, "one", folder).await;
    for snapshotter in SNAPSHOTTERS {
        let snapshots = session.snapshots(snapshotter);
        snapshots.prepare("to-commit", "", kept(0)).await.unwrap();
        snapshots.prepare("base", "", kept(0)).await.unwrap();
        snapshots.commit("committed", "base", kept(0), None).await.unwrap();
    }
    // One that has everything but its commit, and one in the middle.
    drop(write(&session.content(), "whole", b"all of it", 9).await.unwrap());
    drop(write(&session.content(), "half", &part(3), PART_BYTES / 2).await.unwrap());
}

/// An archive with one file of 1 MiB.
fn layer() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 20);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "file", std::io::Read::take(std::io::repeat(b'x'), 1 << 20)).unwrap();
    builder.into_inner().unwrap()
}

/// Whatever needs room, one by one, with what became of it.
async fn everything_else(session: &Session) -> Vec<(&'static str, Result<()>)> {
    let store = session.content();
    let mut results = rows(session).await;
    results.push(("begin an ingest", put(&store, "new", b"new bytes", Labels::new()).await));
    results.push(("commit an ingest", commit(&store).await));
    results.push(("go on with an ingest", go_on(&store).await));
    let label = store.update(&sha256(&layer()), &kept(1), &UpdateMask::replace_all()).await;
    results.push(("label a blob", label.map(drop)));
    let mounts = session.snapshots("overlayfs").mounts("to-commit").await.unwrap();
    let differ = DiffProxy::new(session.connection(), Scope::new(session.namespace()));
    let descriptor =
        Descriptor::new("application/vnd.oci.image.layer.v1.tar", sha256(&layer()), layer().len() as u64);
    let applied = differ.apply(&store, &descriptor, &mounts, ApplyOptions::default()).await;
    results.push(("apply", applied.map(drop)));
    for snapshotter in SNAPSHOTTERS {
        let snapshots = session.snapshots(snapshotter);
        results.push(("prepare", snapshots.prepare("new", "committed", kept(1)).await.map(drop)));
        results.push(("view", snapshots.view("new", "committed", kept(1)).await.map(drop)));
        results.push(("commit", snapshots.commit("new-layer", "to-commit", kept(1), None).await));
        let update = snapshots.update("committed", &kept(1), &UpdateMask::replace_all()).await;
        results.push(("label a snapshot", update.map(drop)));
    }
    results
}

/// Of all its files only the work folder is on this disk.
async fn create_task(session: &Session) -> Result<()> {
    let task = CreateTaskRequest { container_id: "one".to_owned(), ..CreateTaskRequest::default() };
    let task = TasksClient::new(session.channel()).create(session.request(task)).await;
    task.map(drop).map_err(from_status)
}

async fn commit(store: &ContentProxy) -> Result<()> {
    let mut ingest = store.ingest("whole", IngestOptions::default()).await?;
    ingest.commit(commit_options(b"all of it", Labels::new())).await.map(drop)
}

async fn go_on(store: &ContentProxy) -> Result<()> {
    let mut ingest = store.ingest("half", IngestOptions::default()).await?;
    let offset = usize::try_from(ingest.status().offset_bytes).unwrap();
    ingest.write(bytes::Bytes::copy_from_slice(&part(3)[offset..])).await
}

async fn rows(session: &Session) -> Vec<(&'static str, Result<()>)> {
    let channel = session.channel();
    let mut results = Vec::new();
    results.push(("create an image", create_image(session, image("localhost/new", &part(2), &[])).await));
    let image = Some(image("localhost/full:1", &part(2), &[("changed", "yes")]));
    let request = session.request(UpdateImageRequest { image, ..UpdateImageRequest::default() });
    let update = ImagesClient::new(channel.clone()).update(request).await;
    results.push(("update an image", update.map(drop).map_err(from_status)));
    results.push(("create a container", create_container(session, container("new")).await));
    let mut changed = container("one");
    changed.labels.insert("changed".to_owned(), "yes".to_owned());
    let request = UpdateContainerRequest { container: Some(changed), update_mask: None };
    let update = ContainersClient::new(channel.clone()).update(session.request(request)).await;
    results.push(("update a container", update.map(drop).map_err(from_status)));
    results.push(("create a lease", session.create_lease("new").await));
    let resource = Resource { id: "new".to_owned(), r#type: "snapshots/overlayfs".to_owned() };
    let request = AddResourceRequest { id: "holder".to_owned(), resource: Some(resource) };
    let add = LeasesClient::new(channel.clone()).add_resource(session.request(request)).await;
    results.push(("add to a lease", add.map(drop).map_err(from_status)));
    let labels = [("changed".to_owned(), "yes".to_owned())].into();
    let new = Namespace { name: "new".to_owned(), ..Namespace::default() };
    let request = session.request(CreateNamespaceRequest { namespace: Some(new) });
    let create = NamespacesClient::new(channel.clone()).create(request).await;
    results.push(("create a namespace", create.map(drop).map_err(from_status)));
    let full = Namespace { name: session.namespace().to_string(), labels };
    let request = UpdateNamespaceRequest { namespace: Some(full), update_mask: None };
    let update = NamespacesClient::new(channel).update(session.request(request)).await;
    results.push(("update a namespace", update.map(drop).map_err(from_status)));
    results
}

async fn delete_image(session: &Session) {
    let request =
        DeleteImageRequest { name: "localhost/full:1".to_owned(), sync: true, ..Default::default() };
    ImagesClient::new(session.channel()).delete(session.request(request)).await.unwrap();
}

/// The container's row goes at once; its snapshot goes with the next collection.
async fn delete_container(session: &Session) {
    let request = session.request(DeleteContainerRequest { id: "one".to_owned() });
    ContainersClient::new(session.channel()).delete(request).await.unwrap();
}

fn assert_refused(results: Vec<(&'static str, Result<()>)>) {
    let refused = |result: &Result<()>| {
        result.as_ref().is_err_and(|error| error.kind() == ErrorKind::ResourceExhausted)
    };
    let others: Vec<_> = results.iter().filter(|(_, result)| !refused(result)).collect();
    assert!(others.is_empty(), "not refused with ResourceExhausted: {others:#?}");
}

/// The bytes are gone, and their room is there.
async fn assert_freed(small: &Small, session: &Session, bytes: &[u8]) {
    let info = session.content().info(&sha256(bytes)).await;
    assert_eq!(info.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(small.free_bytes() >= bytes.len() as u64, "{} bytes are free", small.free_bytes());
}

fn assert_same(before: &[String], after: &[String]) {
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}\ngone: {gone:#?}");
}

#[test]
fn a_full_disk_refuses_everything_but_what_makes_room() {
    if !root_or_skip() {
        return;
    }
    let mut small = Small::new(&[]);
    let folder = small.daemon.path("mounts");
    runtime().block_on(async {
        let session = Session::open(&small.daemon.address(), "full");
        settle_in(&session, &folder).await;
        let before = listing(&session).await;

        // Two that are open already.
        let store = session.content();
        let mut whole = store.ingest("whole", IngestOptions::default()).await.unwrap();
        let mut half = store.ingest("half", IngestOptions::default()).await.unwrap();
        small.fill();
        let committed = whole.commit(commit_options(b"all of it", Labels::new())).await.map(drop);
        let written = half.write(part(3)[PART_BYTES / 2..].to_vec().into()).await;
        assert_refused(vec![("commit an open ingest", committed), ("write to an open ingest", written)]);
        drop((whole, half));
        assert_refused(everything_else(&session).await);
        assert_refused(vec![("create a task", create_task(&session).await)]);
        assert_same(&before, &listing(&session).await);
        session.delete_lease("holder", true).await.unwrap();
        assert_freed(&small, &session, &part(1)).await;

        small.empty();
        small.fill();
        small.daemon.kill().unwrap();
        small.daemon.restart().unwrap();
        delete_image(&session).await;
        assert_freed(&small, &session, &part(2)).await;

        small.empty();
        small.fill();
        delete_container(&session).await;
        eventually("a collection to give the container's files back", || {
            (small.free_bytes() >= PART_BYTES as u64).then_some(())
        })
        .unwrap();

        small.empty();
        session.create_lease("holder").await.unwrap();
        put(&session.content(), "after", &part(2), kept(2)).await.unwrap();
        create_image(&session, image("localhost/full:1", &part(2), &[])).await.unwrap();
        create_container(&session, container("one")).await.unwrap();
        let failed: Vec<_> = everything_else(&session)
            .await
            .into_iter()
            // Its key is that of the snapshot prepared right before.
            .filter(|(what, result)| result.is_err() && *what != "view")
            .collect();
        assert!(failed.is_empty(), "with room again: {failed:#?}");
    });
    small.finish();
}

#[test]
fn a_disk_without_inodes_refuses_files_and_keeps_its_rows() {
    if !root_or_skip() {
        return;
    }
    let small = Small::new(&["-N", "512"]);
    runtime().block_on(async {
        let session = Session::open(&small.daemon.address(), "full");
        settle_in(&session, &small.daemon.path("mounts")).await;
        let before = listing(&session).await;
        let ballast = small.disk.join("ballast");
        std::fs::create_dir(&ballast).unwrap();
        let taken = (0..).find(|number| File::create(ballast.join(number.to_string())).is_err());
        assert!(taken > Some(0), "there were inodes");

        let mut results =
            vec![("begin an ingest", put(&session.content(), "new", b"new bytes", Labels::new()).await)];
        for snapshotter in SNAPSHOTTERS {
            let prepared = session.snapshots(snapshotter).prepare("new", "committed", kept(1)).await;
            results.push(("prepare", prepared.map(drop)));
        }
        assert_refused(results);
        assert_same(&before, &listing(&session).await);

        delete_image(&session).await;
        session.delete_lease("holder", true).await.unwrap();
        session.content().delete(&sha256(&layer())).await.unwrap();
        std::fs::remove_dir_all(&ballast).unwrap();
        put(&session.content(), "new", b"new bytes", kept(2)).await.unwrap();
        session.snapshots("native").prepare("new", "committed", kept(2)).await.unwrap();
    });
    small.finish();
}
