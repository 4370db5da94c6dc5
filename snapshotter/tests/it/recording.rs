use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use corten_snapshotter::manifest::{Entry, Reader, RecordTrees, checksum};
use corten_snapshotter::{LocalSnapshotter, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::Labels;

use crate::plain::{Plain, open};

/// Puts a folder and a file into the snapshot, as a layer would.
fn apply(snapshots: &LocalSnapshotter<Plain>, tree: &Path) -> bool {
    let Some(mut recorder) = snapshots.record(tree).unwrap() else { return false };
    std::fs::create_dir(tree.join("folder")).unwrap();
    recorder.put(b"folder", Entry::Folder);
    File::create(tree.join("folder/file")).unwrap().write_all(b"layer").unwrap();
    recorder.put(b"folder/file", Entry::File { size_bytes: 5, checksum: checksum(0, b"layer") });
    recorder.finish().unwrap();
    true
}

#[tokio::test]
async fn the_manifest_of_a_layer_is_kept_by_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    {
        let snapshots = open(folder.path());
        let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
        assert!(apply(&snapshots, Path::new(&mounts[0].source)));
        assert_eq!(snapshots.tree("active").await.unwrap().manifest, None, "it is not committed yet");
        snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
    }
    let snapshots = open(folder.path());
    let tree = snapshots.tree("layer").await.unwrap();
    assert_eq!((tree.id, &tree.path), (1, &folder.path().join("snapshots/1")));
    let manifest = tree.manifest.unwrap();
    let reader = Reader::open(&manifest.path).unwrap();
    assert_eq!((reader.seal().checksum, reader.seal().entries), (manifest.checksum, 2));
    assert_eq!(snapshots.usage("layer").await.unwrap().inodes, 3);
    snapshots.remove("layer").await.unwrap();
    snapshots.cleanup().await.unwrap();
    assert!(!manifest.path.exists(), "it goes with the snapshot");
}

#[tokio::test]
async fn whatever_else_changes_the_snapshot_drops_the_manifest() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("same length", |tree| {
            let file = File::options().write(true).open(tree.join("folder/file")).unwrap();
            file.write_all_at(b"LAYER", 0).unwrap();
        }),
        ("new", |tree| drop(File::create(tree.join("new")).unwrap())),
        ("gone", |tree| std::fs::remove_file(tree.join("folder/file")).unwrap()),
        ("mode", |tree| {
            let mode = std::fs::Permissions::from_mode(0o711);
            std::fs::set_permissions(tree.join("folder"), mode).unwrap();
        }),
        ("link", |tree| std::fs::hard_link(tree.join("folder/file"), tree.join("folder/too")).unwrap()),
        ("times taken back", |tree| {
            let file = File::options().write(true).open(tree.join("folder/file")).unwrap();
            file.write_all_at(b"LAYER", 0).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    for (name, harm) in harms {
        let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
        let tree = Path::new(&mounts[0].source);
        assert!(apply(&snapshots, tree));
        harm(tree);
        snapshots.commit(name, "active", Labels::new(), None).await.unwrap();
        assert_eq!(snapshots.tree(name).await.unwrap().manifest, None, "{name}");
    }
    let left = std::fs::read_dir(folder.path().join("manifests")).unwrap().count();
    assert_eq!(left, 0, "what no row tells of is not kept");
}

#[tokio::test]
async fn only_an_empty_active_snapshot_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
    let tree = Path::new(&mounts[0].source);
    let other = tempfile::tempdir().unwrap();
    let nobodys = folder.path().join("snapshots/77");
    std::fs::create_dir(&nobodys).unwrap();
    for elsewhere in
        [other.path(), folder.path(), &folder.path().join("snapshots"), &tree.join("in"), &nobodys]
    {
        assert!(snapshots.record(elsewhere).unwrap().is_none(), "{}", elsewhere.display());
    }
    assert!(apply(&snapshots, tree));
    assert!(!apply(&snapshots, tree), "a second layer in the same snapshot");
    snapshots.commit("twice", "active", Labels::new(), None).await.unwrap();
    assert_eq!(snapshots.tree("twice").await.unwrap().manifest, None);
    assert!(!apply(&snapshots, tree), "it is committed");
    let mounts = snapshots.view("look", "", Labels::new()).await.unwrap();
    assert!(!apply(&snapshots, Path::new(&mounts[0].source)), "a view takes no layer");
}

#[tokio::test]
async fn a_recording_that_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
    let tree = Path::new(&mounts[0].source);
    let mut recorder = snapshots.record(tree).unwrap().unwrap();
    recorder.put(b"file", Entry::Fifo);
    drop(recorder);
    assert!(apply(&snapshots, tree), "another try begins anew");
    snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
    assert!(snapshots.tree("layer").await.unwrap().manifest.is_some());

    let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
    let recorder = snapshots.record(Path::new(&mounts[0].source)).unwrap().unwrap();
    snapshots.commit("early", "active", Labels::new(), None).await.unwrap();
    recorder.finish().unwrap();
    assert_eq!(snapshots.tree("early").await.unwrap().manifest, None, "it was committed before the end");

    let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
    let tree = Path::new(&mounts[0].source);
    let first = snapshots.record(tree).unwrap().unwrap();
    assert!(snapshots.record(tree).unwrap().is_none(), "two layers at once cannot be told apart");
    first.finish().unwrap();
    snapshots.commit("both", "active", Labels::new(), None).await.unwrap();
    assert_eq!(snapshots.tree("both").await.unwrap().manifest, None);
}

#[tokio::test]
async fn a_commit_that_is_refused_keeps_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    for key in ["one", "two"] {
        let mounts = snapshots.prepare(key, "", Labels::new()).await.unwrap();
        assert!(apply(&snapshots, Path::new(&mounts[0].source)));
    }
    snapshots.commit("layer", "one", Labels::new(), None).await.unwrap();
    snapshots.commit("layer", "two", Labels::new(), None).await.unwrap_err();
    snapshots.commit("free", "two", Labels::new(), None).await.unwrap();
    assert!(snapshots.tree("free").await.unwrap().manifest.is_some());
}

#[tokio::test]
async fn manifests_without_a_snapshot_are_removed_at_open() {
    let folder = tempfile::tempdir().unwrap();
    {
        let snapshots = open(folder.path());
        let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
        assert!(apply(&snapshots, Path::new(&mounts[0].source)));
        snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
    }
    let manifests = folder.path().join("manifests");
    for name in ["9", "1.new", "1.runs", "foreign"] {
        File::create(manifests.join(name)).unwrap();
    }
    let snapshots = open(folder.path());
    assert!(snapshots.tree("layer").await.unwrap().manifest.unwrap().path.exists());
    assert_eq!(std::fs::read_dir(manifests).unwrap().count(), 1);
}
