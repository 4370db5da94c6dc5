use std::path::{Path, PathBuf};

use corten_database::rusqlite;
use corten_disk::Disk;
use corten_filter::Filters;
use corten_snapshotter::{
    Driver, Kind, LocalSnapshotter, Metastore, Placement, Removal, SnapshotKeeper, SnapshotReader,
    SnapshotWriter, Trees,
};
use corten_types::{ErrorKind, Labels, Mount, Result};

/// Folders with nothing in them.
struct Plain;

impl Driver for Plain {
    type Options = ();

    fn open(_trees: &Trees, (): ()) -> Result<Self> {
        Ok(Self)
    }

    fn capabilities(&self) -> Vec<String> {
        Vec::new()
    }

    fn create(&self, trees: &Trees, placement: &Placement) -> Result<()> {
        trees.create(placement.id, |_| Ok(()))
    }

    fn is_durable_from_the_start(&self, _placement: &Placement) -> bool {
        false
    }

    fn mend(&self, trees: &Trees, placement: &Placement) -> Result<bool> {
        Ok(self.is_there(trees, placement.id))
    }

    fn is_there(&self, trees: &Trees, id: u64) -> bool {
        trees.folder(id).is_dir()
    }

    fn mounts(&self, trees: &Trees, placement: &Placement) -> Vec<Mount> {
        let numbers = placement.parents.iter().map(u64::to_string).collect();
        let source = trees.folder(placement.id).display().to_string();
        vec![Mount { kind: "bind".to_owned(), source, target: String::new(), options: numbers }]
    }

    fn measured(&self, trees: &Trees, id: u64) -> PathBuf {
        trees.folder(id)
    }

    fn rebases(&self) -> bool {
        true
    }

    fn removal(&self) -> Removal {
        Removal::OnCleanup
    }

    fn add_labels(&self, _trees: &Trees, _id: u64, _labels: &mut Labels) {}
}

fn open(root: &Path) -> LocalSnapshotter<Plain> {
    LocalSnapshotter::open(root, ()).unwrap()
}

fn labels(key: &str, value: &str) -> Labels {
    [(key.to_owned(), value.to_owned())].into()
}

#[tokio::test]
async fn a_placement_names_all_below_the_nearest_first() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    let mut parent = String::new();
    for depth in 0..5 {
        snapshots.prepare("active", &parent, Labels::new()).await.unwrap();
        parent = format!("layer-{depth}");
        snapshots.commit(&parent, "active", Labels::new(), None).await.unwrap();
    }
    let mounts = snapshots.prepare("active", &parent, Labels::new()).await.unwrap();
    assert_eq!(mounts[0].options, ["5", "4", "3", "2", "1"]);
    assert_eq!(snapshots.mounts("active").await.unwrap(), mounts);
}

#[tokio::test]
async fn rows_describe_themselves_to_whoever_opens_the_database() {
    let folder = tempfile::tempdir().unwrap();
    {
        let snapshots = open(folder.path());
        snapshots.prepare("ns/1/key", "", labels("a", "1")).await.unwrap();
        snapshots.commit("ns/2/name", "ns/1/key", labels("b", "2"), None).await.unwrap();
        snapshots.prepare("ns/3/key", "ns/2/name", labels("c", "3")).await.unwrap();
        snapshots.close().await.unwrap();
    }
    let (metastore, report) = Metastore::open(&folder.path().join("metastore.db"), Disk::new()).unwrap();
    assert!(report.health.is_healthy());
    let committed = metastore.get("ns/2/name").unwrap();
    assert_eq!((committed.id, committed.key.as_str(), committed.info.kind), (1, "ns/1/key", Kind::Committed));
    assert_eq!(committed.info.labels, labels("b", "2"));
    assert_eq!(committed.usage.unwrap().inodes, 1);
    let active = metastore.by_id(2).unwrap().unwrap();
    assert_eq!((active.info.name.as_str(), active.info.parent.as_str()), ("ns/3/key", "ns/2/name"));
    assert_eq!((active.usage, active.info.labels), (None, labels("c", "3")));
    assert_eq!(metastore.committed_from("ns/1/key").unwrap(), Some(committed));
    assert!(metastore.reserve_id() > 2);
}

#[tokio::test]
async fn a_damaged_row_is_told_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    {
        let snapshots = open(folder.path());
        for key in ["good", "damaged"] {
            snapshots.prepare(key, "", labels("name", key)).await.unwrap();
        }
        snapshots.close().await.unwrap();
    }
    {
        let connection = rusqlite::Connection::open(folder.path().join("metastore.db")).unwrap();
        connection.execute("UPDATE snapshots SET labels = '{}' WHERE name = 'damaged'", []).unwrap();
    }
    let (metastore, _) = Metastore::open(&folder.path().join("metastore.db"), Disk::new()).unwrap();
    assert_eq!(metastore.get("good").unwrap().info.labels, labels("name", "good"));
    let refused = metastore.get("damaged").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DataLoss);
    assert!(refused.message().contains("damaged"), "{refused:?}");
    assert_eq!(metastore.list(&Filters::all(), None, 10).unwrap_err().kind(), ErrorKind::DataLoss);
    drop(metastore);
    let snapshots = open(folder.path());
    assert!(snapshots.report().quarantine.is_some(), "its folder must not go for want of a row");
    assert!(folder.path().join("snapshots/2").is_dir());
    snapshots.stat("good").await.unwrap();
}

#[tokio::test]
async fn an_empty_key_or_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    let refused = snapshots.prepare("", "", Labels::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    snapshots.prepare("key", "", Labels::new()).await.unwrap();
    let refused = snapshots.commit("", "key", Labels::new(), None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn more_rows_than_a_page_are_listed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    let keys: Vec<String> = (0..300).map(|number| format!("key-{number:03}")).collect();
    let mut waiting = tokio::task::JoinSet::new();
    for key in keys.clone() {
        let snapshots = snapshots.clone();
        waiting.spawn(async move { snapshots.view(&key, "", Labels::new()).await.unwrap() });
    }
    waiting.join_all().await;
    let listed = snapshots.list(&Filters::all(), None, usize::MAX).await.unwrap();
    assert_eq!(listed.into_iter().map(|info| info.name).collect::<Vec<_>>(), keys);
    let filters = Filters::parse(&["name~=9$"]).unwrap();
    let listed = snapshots.list(&filters, Some("key-009"), 29).await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[28].name.as_str()), (29, "key-019", "key-299"));
    assert!(snapshots.list(&Filters::all(), None, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path());
    {
        let mut call = Box::pin(snapshots.prepare("key", "", Labels::new()));
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context))).await;
        drop(polled);
    }
    // Closing waits for nobody else's call, so the next one is asked until the first is through.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while snapshots.stat("key").await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the call was given up");
        tokio::task::yield_now().await;
    }
    assert!(folder.path().join("snapshots/1").is_dir());
}
