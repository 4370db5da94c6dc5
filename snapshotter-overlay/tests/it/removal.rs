use corten_snapshotter::{SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_snapshotter_overlay::Options;
use corten_types::Labels;

use crate::support::{clean, folders, layer, open};

#[tokio::test]
async fn folders_of_removed_snapshots_go_with_cleanup() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path(), Options::default());
    layer(&snapshots, "one", "").await;
    layer(&snapshots, "two", "one").await;
    snapshots.remove("two").await.unwrap();
    snapshots.stat("two").await.unwrap_err();
    assert_eq!(folders(folder.path()), ["1", "2"]);
    clean(&snapshots).await;
    assert_eq!(folders(folder.path()), ["1"]);
    clean(&snapshots).await;
}

#[tokio::test]
async fn a_removal_is_remembered_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let snapshots = open(folder.path(), Options::default());
        layer(&snapshots, "one", "").await;
        snapshots.remove("one").await.unwrap();
    }
    let snapshots = open(folder.path(), Options::default());
    assert_eq!(snapshots.report().debris_removed, 0, "it has a tombstone, so it is not debris");
    assert_eq!(folders(folder.path()), ["1"]);
    clean(&snapshots).await;
    assert!(folders(folder.path()).is_empty());
}

#[tokio::test]
async fn foreign_folders_are_removed_by_nobody_while_rows_may_be_on_their_way() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    {
        let snapshots = open(root, Options::default());
        layer(&snapshots, "one", "").await;
        for name in ["7", "new-1234", "rm-5", "lost+found", "07"] {
            std::fs::create_dir_all(root.join("snapshots").join(name).join("fs")).unwrap();
        }
        clean(&snapshots).await;
        assert_eq!(folders(root).len(), 6, "cleanup works off tombstones only");
    }
    let snapshots = open(root, Options::default());
    assert_eq!(snapshots.report().debris_removed, 3);
    assert_eq!(folders(root), ["07", "1", "lost+found"], "names of other kinds are somebody else's");
    snapshots.prepare("next", "one", Labels::new()).await.unwrap();
    assert_eq!(folders(root), ["07", "1", "8", "lost+found"], "the number of the debris is not used again");
}

#[tokio::test]
async fn nothing_is_removed_for_want_of_a_row_if_the_database_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    {
        let snapshots = open(root, Options::default());
        layer(&snapshots, "one", "").await;
    }
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("metastore.db") {
            std::fs::remove_file(path).unwrap();
        }
    }
    for _ in 0..2 {
        let snapshots = open(root, Options::default());
        assert!(snapshots.report().quarantine.is_some());
        assert_eq!(snapshots.report().debris_kept, 1);
        assert_eq!(folders(root), ["1"]);
    }
    {
        let snapshots = open(root, Options::default());
        let mounts = snapshots.prepare("new", "", Labels::new()).await.unwrap();
        assert!(mounts[0].source.ends_with("snapshots/2/fs"), "the number is not taken by debris");
        snapshots.release_quarantine().await.unwrap();
    }
    let snapshots = open(root, Options::default());
    assert_eq!((&snapshots.report().quarantine, snapshots.report().debris_removed), (&None, 1));
    assert_eq!(folders(root), ["2"]);
}

#[tokio::test]
async fn what_a_power_cut_took_of_an_active_snapshot_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    {
        let snapshots = open(root, Options::default());
        layer(&snapshots, "one", "").await;
        layer(&snapshots, "lost", "").await;
        for key in ["folder-lost", "files-lost", "work-lost"] {
            snapshots.prepare(key, "one", Labels::new()).await.unwrap();
        }
    }
    for lost in ["2", "3", "4/fs", "5/work"] {
        std::fs::remove_dir_all(root.join("snapshots").join(lost)).unwrap();
    }
    let snapshots = open(root, Options::default());
    assert_eq!(snapshots.report().missing, ["lost"], "files of a committed snapshot cannot be made up");
    for id in 3..=5 {
        assert!(
            root.join(format!("snapshots/{id}/fs")).is_dir()
                && root.join(format!("snapshots/{id}/work")).is_dir()
        );
    }
    for key in ["folder-lost", "files-lost", "work-lost"] {
        snapshots.commit(&format!("{key}-committed"), key, Labels::new(), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_can_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path(), Options::default());
    layer(&snapshots, "one", "").await;
    assert_eq!(snapshots.committed_from("one-active").await.unwrap().unwrap().name, "one");
    snapshots.prepare("still-active", "one", Labels::new()).await.unwrap();
    assert_eq!(snapshots.committed_from("still-active").await.unwrap(), None);
}
