use std::path::Path;

use corten_database::rusqlite;
use corten_disk::Disk;
use corten_filter::Filters;
use corten_snapshotter::{Kind, Metastore, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::{ErrorKind, Labels};

use crate::plain::open;

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
    write_old_marker(&folder.path().join("metastore.db.marker"));
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

#[tokio::test]
async fn a_database_from_before_manifests_is_taken_over_and_its_damage_stays_damage() {
    let folder = tempfile::tempdir().unwrap();
    {
        let snapshots = open(folder.path());
        for key in ["good", "damaged"] {
            snapshots.prepare(key, "", labels("name", key)).await.unwrap();
        }
        snapshots.close().await.unwrap();
    }
    let path = folder.path().join("metastore.db");
    {
        // What is told of the second version is taken back; the checksum function is not there without the crate, so
        // the old sums are computed here.
        let connection = rusqlite::Connection::open(&path).unwrap();
        let sums: Vec<(i64, u32)> = [(1, "good"), (2, "damaged")]
            .map(|(id, name)| {
                let (labels, created, updated): (String, i64, i64) = connection
                    .query_row(
                        "SELECT labels, created_ns, updated_ns FROM snapshots WHERE id = ?1",
                        [id],
                        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                    )
                    .unwrap();
                (id, old_sum(id, name, &labels, created, updated))
            })
            .to_vec();
        connection
            .execute_batch("ALTER TABLE snapshots DROP COLUMN manifest; PRAGMA user_version = 1")
            .unwrap();
        for (id, sum) in sums {
            connection.execute("UPDATE snapshots SET checksum = ?1 WHERE id = ?2", (sum, id)).unwrap();
        }
        connection.execute("UPDATE snapshots SET labels = '{}' WHERE name = 'damaged'", []).unwrap();
    }
    write_old_marker(&folder.path().join("metastore.db.marker"));
    let (metastore, _) = Metastore::open(&path, Disk::new()).unwrap();
    let row = metastore.get("good").unwrap();
    assert_eq!((row.info.labels, row.manifest), (labels("name", "good"), None));
    assert_eq!(metastore.get("damaged").unwrap_err().kind(), ErrorKind::DataLoss);
}

/// Makes the marker at `path` what it was when it did not tell the schema, as `docs/formats/database.md` describes it.
fn write_old_marker(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with("schema ")).collect();
    lines[0] = "corten database marker 1";
    lines.pop();
    let body = lines.join("\n");
    let sum = corten_snapshotter::manifest::checksum(0, body.as_bytes());
    let text = format!("{body}\ncrc32c {sum:08x}\n");
    Disk::new().replace_file(path, text.as_bytes(), 0o600).unwrap();
}

/// The checksum of a row of the first version, as `docs/formats/database.md` describes it.
fn old_sum(id: i64, name: &str, labels: &str, created: i64, updated: i64) -> u32 {
    use corten_snapshotter::manifest::checksum;
    let add = |sum: u32, kind: &[u8], bytes: &[u8]| {
        let sum = checksum(sum, kind);
        let sum = checksum(sum, &(bytes.len() as u64).to_le_bytes());
        checksum(sum, bytes)
    };
    let integer = |sum: u32, number: i64| add(sum, b"i", &number.to_le_bytes());
    let text = |sum: u32, text: &str| add(sum, b"t", text.as_bytes());
    let null = |sum: u32| checksum(sum, b"n");
    let sum = text(text(integer(0, id), name), name);
    let sum = text(text(null(sum), "active"), labels);
    integer(integer(null(null(sum)), created), updated)
}
