use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corten_snapshotter::{SnapshotReader, SnapshotWriter};
use corten_snapshotter_overlay::{LABEL_UPPERDIR, Options};
use corten_types::{ErrorKind, Labels};

use crate::support::{folders, layer, needs_root, open, upper_of};

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[tokio::test]
async fn folders_are_called_after_numbers_and_have_containerds_modes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let snapshots = open(root, Options::default());
    snapshots.prepare("active", "", Labels::new()).await.unwrap();
    snapshots.view("look", "", Labels::new()).await.unwrap();
    assert_eq!(folders(root), ["1", "2"]);
    assert_eq!(mode_of(&root.join("snapshots")), 0o700);
    assert_eq!(mode_of(&root.join("snapshots/1")), 0o700);
    assert_eq!(mode_of(&root.join("snapshots/1/fs")), 0o755);
    assert_eq!(mode_of(&root.join("snapshots/1/work")), 0o711);
    assert!(!root.join("snapshots/2/work").exists(), "a view is never written");
    snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
    assert_eq!(folders(root), ["1", "2"], "the number is kept");
}

#[tokio::test]
async fn numbers_are_never_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    {
        let snapshots = open(root, Options { sync_remove: true, ..Options::default() });
        snapshots.prepare("one", "", Labels::new()).await.unwrap();
        snapshots.prepare("two", "", Labels::new()).await.unwrap();
        corten_snapshotter::SnapshotKeeper::remove(&snapshots, "two").await.unwrap();
        assert_eq!(folders(root), ["1"]);
        snapshots.close().await.unwrap();
        snapshots.close().await.unwrap();
        assert_eq!(snapshots.stat("one").await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let snapshots = open(root, Options::default());
    snapshots.prepare("three", "", Labels::new()).await.unwrap();
    assert_eq!(folders(root), ["1", "3"]);
}

#[tokio::test]
async fn the_root_belongs_to_whom_the_parents_root_belongs() {
    if needs_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path(), Options::default());
    let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
    std::os::unix::fs::chown(upper_of(&mounts), Some(1234), Some(4321)).unwrap();
    snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
    let mounts = snapshots.prepare("next", "layer", Labels::new()).await.unwrap();
    let found = upper_of(&mounts).metadata().unwrap();
    assert_eq!((found.uid(), found.gid()), (1234, 4321));
}

#[tokio::test]
async fn mapped_ids_give_the_root_to_the_containers_root() {
    if needs_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path(), Options::default());
    layer(&snapshots, "layer", "").await;
    let mapping = |users: &str| -> Labels {
        [("containerd.io/snapshot/uidmapping", users), ("containerd.io/snapshot/gidmapping", "0:2000:65536")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    };
    let mounts = snapshots.prepare("mapped", "layer", mapping("0:1000:65536")).await.unwrap();
    let found = upper_of(&mounts).metadata().unwrap();
    assert_eq!((found.uid(), found.gid()), (1000, 2000));
    if snapshots.capabilities().iter().any(|name| name == "remap-ids") {
        assert_eq!(mounts[0].options[..2], ["uidmap=0:1000:65536", "gidmap=0:2000:65536"]);
        let target = tempfile::tempdir().unwrap();
        let mounted = corten_mount::TemporaryMount::new(&mounts, target.path()).unwrap();
        let seen = mounted.path().join("layer").metadata().unwrap();
        mounted.close().unwrap();
        assert_eq!((seen.uid(), seen.gid()), (1000, 2000));
    }
    let refused = snapshots.prepare("wrong", "layer", mapping("5:1000:10")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert_eq!(folders(folder.path()), ["1", "2"], "nothing is left of what was refused");
}

#[tokio::test]
async fn the_folder_of_the_files_is_told_as_a_label_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("snapshots/1/fs").display().to_string();
    {
        let snapshots = open(folder.path(), Options { upperdir_label: true, ..Options::default() });
        snapshots.prepare("active", "", Labels::new()).await.unwrap();
        assert_eq!(snapshots.stat("active").await.unwrap().labels[LABEL_UPPERDIR], expected);
        let listed = snapshots.list(&corten_filter::Filters::all(), None, 10).await.unwrap();
        assert_eq!(listed[0].labels[LABEL_UPPERDIR], expected);
        snapshots.close().await.unwrap();
    }
    let snapshots = open(folder.path(), Options::default());
    assert!(snapshots.stat("active").await.unwrap().labels.is_empty(), "it was stored");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), Options::default());
    let refused =
        corten_snapshotter_overlay::OverlaySnapshotter::open(folder.path(), Options::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    drop(first);
    open(folder.path(), Options::default());
}
