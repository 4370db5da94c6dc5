use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corten_snapshotter::{SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_snapshotter_native::{NativeSnapshotter, Options};
use corten_types::{ErrorKind, Labels, Mount};

fn open(root: &Path) -> NativeSnapshotter {
    NativeSnapshotter::open(root, Options::default()).unwrap()
}

fn bind(root: &Path, id: u64, access: &str) -> Vec<Mount> {
    vec![Mount {
        kind: "bind".to_owned(),
        source: root.join(format!("snapshots/{id}")).display().to_string(),
        target: String::new(),
        options: vec!["rbind".to_owned(), access.to_owned()],
    }]
}

fn folders(root: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(root.join("snapshots")).unwrap();
    let mut names: Vec<String> =
        listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn everything_is_a_bind_mount_and_views_show_their_nearest_parent() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let snapshots = open(root);
    assert_eq!(snapshots.prepare("one", "", Labels::new()).await.unwrap(), bind(root, 1, "rw"));
    assert_eq!(root.join("snapshots/1").metadata().unwrap().mode() & 0o7777, 0o755);
    std::fs::File::create(root.join("snapshots/1/file")).unwrap();
    snapshots.commit("layer-one", "one", Labels::new(), None).await.unwrap();
    assert_eq!(snapshots.prepare("two", "layer-one", Labels::new()).await.unwrap(), bind(root, 2, "rw"));
    assert!(root.join("snapshots/2/file").exists());
    snapshots.commit("layer-two", "two", Labels::new(), None).await.unwrap();
    assert_eq!(snapshots.view("look", "layer-two", Labels::new()).await.unwrap(), bind(root, 2, "ro"));
    assert_eq!(snapshots.view("empty", "", Labels::new()).await.unwrap(), bind(root, 4, "ro"));
    assert_eq!(folders(root), ["1", "2", "4"], "a view of a parent has no folder");
    assert!(snapshots.capabilities().is_empty());
}

#[tokio::test]
async fn files_go_with_their_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let snapshots = open(root);
    snapshots.prepare("one", "", Labels::new()).await.unwrap();
    snapshots.commit("layer", "one", Labels::new(), None).await.unwrap();
    snapshots.view("look", "layer", Labels::new()).await.unwrap();
    snapshots.remove("look").await.unwrap();
    snapshots.remove("layer").await.unwrap();
    assert!(folders(root).is_empty());
    let refused = snapshots.cleanup().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unimplemented);
}

#[tokio::test]
async fn a_copy_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let snapshots = open(root);
    snapshots.prepare("one", "", Labels::new()).await.unwrap();
    snapshots.commit("layer", "one", Labels::new(), None).await.unwrap();
    std::fs::remove_dir(root.join("snapshots/1")).unwrap();
    snapshots.prepare("two", "layer", Labels::new()).await.unwrap_err();
    assert!(folders(root).is_empty());
    assert_eq!(snapshots.stat("two").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_copy_that_is_gone_after_a_crash_is_told_and_an_empty_snapshot_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    {
        let snapshots = open(root);
        snapshots.prepare("one", "", Labels::new()).await.unwrap();
        snapshots.commit("layer", "one", Labels::new(), None).await.unwrap();
        snapshots.prepare("copy", "layer", Labels::new()).await.unwrap();
        snapshots.prepare("empty", "", Labels::new()).await.unwrap();
        snapshots.view("look", "layer", Labels::new()).await.unwrap();
    }
    for id in [2, 3] {
        std::fs::remove_dir(root.join(format!("snapshots/{id}"))).unwrap();
    }
    let snapshots = open(root);
    assert_eq!(snapshots.report().missing, ["copy"]);
    assert_eq!(folders(root), ["1", "3"]);
}
