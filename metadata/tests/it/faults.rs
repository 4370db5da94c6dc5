//! Rows, blobs and trees in one history that is cut at every operation of the disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_content_store::{BlobReader, LocalStore};
use corten_disk::{
    Disk,
    testing::{Fault, Script, Unsynced},
};
use corten_filter::Filters;
use corten_metadata::{Image, Metadata, Options};
use corten_snapshotter::{SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_snapshotter_native::NativeSnapshotter;
use corten_types::{Labels, Result};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{descriptor, folder, labels, put, sha256};

struct Stores {
    metadata: Metadata,
    content: Arc<LocalStore>,
    snapshotter: Arc<NativeSnapshotter>,
}

async fn open(root: &Path, disk: &Disk) -> Result<Stores> {
    let content = Arc::new(LocalStore::open(&root.join("content"), disk.clone())?);
    let snapshotter = NativeSnapshotter::open_on(&root.join("native"), Default::default(), disk.clone())?;
    let snapshotter = Arc::new(snapshotter);
    let mut options = Options::new(root.join("metadata.db"), content.clone());
    options.snapshotters.insert("native".to_owned(), snapshotter.clone());
    options.automatic = false;
    options.folders = vec![root.join("content"), root.join("native")];
    options.disk = disk.clone();
    Ok(Stores { metadata: Metadata::open(options).await?, content, snapshotter })
}

/// What was acknowledged, and is to be there after any cut.
#[derive(Debug, Default)]
struct Ledger {
    images: Vec<&'static str>,
    snapshots: Vec<&'static str>,
    /// Begun and perhaps done.
    removing: Vec<&'static str>,
    removed: Vec<&'static str>,
}

const ROOT: &str = "containerd.io/gc.root";

async fn pull(
    stores: &Stores,
    ledger: &mut Ledger,
    name: &'static str,
    bytes: [&'static [u8]; 2],
) -> Result<()> {
    let view = stores.metadata.view("ns".parse()?, None);
    let lease = view.leases().create(Some(name), Labels::new()).await?;
    let leased = stores.metadata.view("ns".parse()?, Some(lease.id));
    let layer = put(&leased.content(), bytes[0], Labels::new()).await?;
    let with = labels([("containerd.io/gc.ref.content.0", layer.as_str())]);
    let manifest = put(&leased.content(), bytes[1], with).await?;
    view.images().create(Image::new(name, descriptor(&manifest)), None).await?;
    view.leases().delete(name).await?;
    ledger.images.push(name);
    Ok(())
}

async fn scenario(root: &Path, disk: &Disk, ledger: &mut Ledger) -> Result<()> {
    let stores = open(root, disk).await?;
    let view = stores.metadata.view("ns".parse()?, None);
    pull(&stores, ledger, "one", [b"layer one", b"manifest one"]).await?;
    pull(&stores, ledger, "two", [b"layer two", b"manifest two"]).await?;
    let snapshots = view.snapshots("native")?;
    snapshots.prepare("draft", "", labels([(ROOT, "x")])).await?;
    ledger.snapshots.push("draft");
    ledger.snapshots.pop();
    snapshots.commit("base", "draft", labels([(ROOT, "x")]), None).await?;
    ledger.snapshots.push("base");
    snapshots.prepare("rw", "base", labels([(ROOT, "x")])).await?;
    ledger.snapshots.push("rw");
    ledger.removing.push("one");
    view.images().delete("one", None).await?;
    ledger.removed.push("one");
    ledger.removing.push("rw");
    snapshots.remove("rw").await?;
    ledger.removed.push("rw");
    stores.metadata.collect().await?;
    stores.metadata.close().await
}

/// Opens what is left and compares.
async fn check(root: &Path, ledger: &Ledger, what: &str) {
    let stores = open(root, &Disk::new()).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(stores.metadata.health().is_healthy(), "{what}: {:?}", stores.metadata.health());
    // Twice, because what a first opening finds without an identity is looked at by the second.
    stores.metadata.close().await.unwrap();
    drop(stores);
    let stores = open(root, &Disk::new()).await.unwrap();
    stores.metadata.collect().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let view = stores.metadata.view("ns".parse().unwrap(), None);
    let may_be_gone = |name: &str| ledger.removing.contains(&name);
    for name in &ledger.images {
        let found = view.images().get(name).await;
        assert!(found.is_ok() || may_be_gone(name), "{what}: image {name} was acknowledged and is lost");
    }
    for image in view.images().list(&Filters::all(), None, 100).await.unwrap() {
        let layer = sha256(format!("layer {}", image.name).as_bytes());
        for digest in [&image.target.digest, &layer] {
            let blob = view.content().open(digest).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let bytes = blob.read_at(0, 100).await.unwrap();
            assert_eq!(sha256(&bytes), *digest, "{what}: the bytes of {}", image.name);
        }
    }
    let snapshots = view.snapshots("native").unwrap();
    for name in &ledger.snapshots {
        let found = snapshots.stat(name).await;
        assert!(found.is_ok() || may_be_gone(name), "{what}: snapshot {name} was acknowledged and is lost");
    }
    for name in &ledger.removed {
        assert!(view.images().get(name).await.is_err(), "{what}: image {name} is back");
        assert!(snapshots.stat(name).await.is_err(), "{what}: snapshot {name} is back");
    }
    let rows = snapshots.list(&Filters::all(), None, 100).await.unwrap();
    for row in &rows {
        assert_eq!(row.labels.get(ROOT).map(String::as_str), Some("x"), "{what}: labels of {}", row.name);
        if row.kind != corten_snapshotter::Kind::Committed {
            snapshots.mounts(&row.name).await.unwrap();
        }
    }
    let below = stores.snapshotter.list(&Filters::all(), None, 100).await.unwrap();
    assert_eq!(below.len(), rows.len(), "{what}: rows {rows:?}, below {below:?}");
    let blobs = view.content().list(&Filters::all(), None, 100).await.unwrap();
    let below = stores.content.list(&Filters::all(), None, 100).await.unwrap();
    assert_eq!(below.len(), blobs.len(), "{what}: bytes without rows are left, or rows without bytes");
    stores.metadata.close().await.unwrap();
}

fn root_of(folder: &TempDir) -> PathBuf {
    folder.path().canonicalize().unwrap()
}

fn count_operations(runtime: &Runtime) -> usize {
    let folder = folder();
    let script = Script::never_fails(&root_of(&folder));
    runtime.block_on(scenario(&root_of(&folder), &script.disk(), &mut Ledger::default())).unwrap();
    script.operation_count()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Every how manyth operation is cut. For each, one state of the disk is tried, in turn.
fn stride() -> usize {
    std::env::var("CORTEN_SWEEP_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Whether every state of the disk is tried for each cut, as a soak does.
fn tries_all_states() -> bool {
    std::env::var_os("CORTEN_SWEEP_STATES").is_some_and(|value| value == "all")
}

fn sweep(script_of: impl Fn(&Path, usize) -> Arc<Script>, what: &str) {
    let runtime = runtime();
    let count = count_operations(&runtime);
    assert!(count >= 100, "{count} operations are too few to prove anything");
    let stride = stride();
    let mut fired = 0;
    for number in (0..count).step_by(stride) {
        let folder = folder();
        let root = root_of(&folder);
        let script = script_of(&root, number);
        let mut ledger = Ledger::default();
        let _ = runtime.block_on(scenario(&root, &script.disk(), &mut ledger));
        fired += usize::from(script.has_fired());
        let all = Unsynced::ALL;
        let states =
            if tries_all_states() { &all[..] } else { &all[number % all.len()..=number % all.len()] };
        for &unsynced in states {
            let target = crate::support::folder();
            script.after_power_loss(unsynced, target.path()).unwrap();
            let log = script.log();
            let what =
                format!("{what} {:?} of {count}, {unsynced:?}, last {:?}", log.get(number), log.last());
            runtime.block_on(check(&root_of(&target), &ledger, &what));
        }
    }
    assert!(fired >= count / stride / 2, "only {fired} cuts were reached");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_left_over_after_a_power_cut() {
    sweep(Script::cuts_power_at, "cut at");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_left_over_after_a_failed_operation() {
    sweep(|root, number| Script::fails_at(root, number, Fault::Io), "failure at");
}
