//! What is set right at open (`consistency.md` §3 and §5).

use corten_content_store::{BlobReader, CommitOptions, IngestCatalog, IngestOptions, Ingester};
use corten_filter::Filters;
use corten_metadata::Health;
use corten_snapshotter::{SnapshotReader, SnapshotWriter};
use corten_types::{ErrorKind, Labels};

use crate::support::{Fixture, kind, labels, put, sha256};

const ROOT: &str = "containerd.io/gc.root";

async fn put_below(fixture: &Fixture, bytes: &'static [u8]) {
    let mut ingest = fixture.content.ingest("stray", IngestOptions::default()).await.unwrap();
    ingest.write(bytes.into()).await.unwrap();
    ingest.commit(CommitOptions::default()).await.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let mut fixture = Fixture::new().await;
    let view = fixture.view("a");
    let digest = put(&view.content(), b"blob", labels([(ROOT, "x")])).await.unwrap();
    let snapshots = view.snapshots("memory").unwrap();
    snapshots.prepare("k", "", labels([(ROOT, "x")])).await.unwrap();
    fixture.reopen(|_| {}).await;
    fixture.metadata.collect().await.unwrap();
    let view = fixture.view("a");
    assert_eq!(view.content().info(&digest).await.unwrap().labels, labels([(ROOT, "x")]));
    assert!(view.snapshots("memory").unwrap().stat("k").await.is_ok());
    assert_eq!(fixture.metadata.health(), Health::Healthy);
}

#[tokio::test]
async fn debris_is_removed_and_lost_things_lose_their_rows() {
    let mut fixture = Fixture::new().await;
    let view = fixture.view("a");
    let kept = put(&view.content(), b"kept", labels([(ROOT, "x")])).await.unwrap();
    let lost = put(&view.content(), b"lost", labels([(ROOT, "x")])).await.unwrap();
    let snapshots = view.snapshots("memory").unwrap();
    snapshots.prepare("kept", "", labels([(ROOT, "x")])).await.unwrap();
    snapshots.prepare("lost", "", labels([(ROOT, "x")])).await.unwrap();
    put_below(&fixture, b"debris").await;
    drop(fixture.content.ingest("a/77/stray", IngestOptions::default()).await.unwrap());
    fixture.snapshotter.prepare("a/78/debris", "", Labels::new()).await.unwrap();
    let name = fixture.snapshotter.names().into_iter().find(|name| name.ends_with("lost")).unwrap();
    fixture.snapshotter.forget(&name);
    corten_content_store::BlobWriter::delete(fixture.content.as_ref(), &lost).await.unwrap();
    fixture.reopen(|_| {}).await;
    fixture.metadata.collect().await.unwrap();
    let view = fixture.view("a");
    assert!(view.content().info(&kept).await.is_ok() && fixture.has_bytes(&kept));
    assert_eq!(kind(view.content().info(&lost).await), ErrorKind::NotFound);
    assert!(!fixture.has_bytes(&sha256(b"debris")));
    assert_eq!(fixture.snapshotter.short_names(), ["kept"]);
    let snapshots = view.snapshots("memory").unwrap();
    assert_eq!(snapshots.list(&Filters::all(), None, 10).await.unwrap().len(), 1);
    assert!(fixture.content.list_ingests(&Filters::all()).await.unwrap().is_empty());
    snapshots.prepare("next", "", Labels::new()).await.unwrap();
    let number = fixture.snapshotter.names().into_iter().find(|name| name.ends_with("next")).unwrap();
    let number: u64 = number.split('/').nth(1).unwrap().parse().unwrap();
    assert!(number > 78, "numbers that were seen are not given again");
}

#[tokio::test]
async fn a_commit_that_a_crash_cut_off_is_carried_through_or_withdrawn() {
    for answer_is_lost in [false, true] {
        let mut fixture = Fixture::new().await;
        let snapshots = fixture.view("a").snapshots("memory").unwrap();
        snapshots.prepare("k", "", labels([(ROOT, "x")])).await.unwrap();
        fixture.snapshotter.crash_at(Some(0), answer_is_lost);
        let with = labels([(ROOT, "x"), ("all", "of them")]);
        assert!(snapshots.commit("name", "k", with.clone(), None).await.is_err());
        fixture.snapshotter.crash_at(None, false);
        fixture.reopen(|_| {}).await;
        fixture.metadata.collect().await.unwrap();
        let snapshots = fixture.view("a").snapshots("memory").unwrap();
        if answer_is_lost {
            assert_eq!(snapshots.stat("name").await.unwrap().labels, with, "no label is lost");
            assert_eq!(kind(snapshots.stat("k").await), ErrorKind::NotFound);
        } else {
            assert!(snapshots.stat("k").await.is_ok());
            assert_eq!(kind(snapshots.stat("name").await), ErrorKind::NotFound);
        }
        assert_eq!(fixture.snapshotter.names().len(), 1);
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_settled_by_the_next_try() {
    let fixture = Fixture::new().await;
    let snapshots = fixture.view("a").snapshots("memory").unwrap();
    snapshots.prepare("k", "", Labels::new()).await.unwrap();
    fixture.snapshotter.crash_at(Some(0), true);
    assert!(snapshots.commit("name", "k", Labels::new(), None).await.is_err());
    fixture.snapshotter.crash_at(None, false);
    assert_eq!(kind(snapshots.commit("name", "k", Labels::new(), None).await), ErrorKind::AlreadyExists);
    assert!(snapshots.stat("name").await.is_ok());
}

#[tokio::test]
async fn folders_of_another_database_mean_quarantine_until_it_is_released() {
    let mut fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let other = fixture.root.path().join("other.db");
    fixture.reopen(|options| options.path = other.clone()).await;
    let Health::Quarantine { reason, .. } = fixture.metadata.health() else { panic!("it is trusted") };
    assert!(reason.contains("belongs to the store"), "{reason}");
    assert_eq!(kind(fixture.metadata.collect().await), ErrorKind::FailedPrecondition);
    let leases = fixture.view("default").leases();
    let held = leases.list_resources("recovered").await.unwrap();
    assert_eq!(held.iter().map(|resource| resource.id.as_str()).collect::<Vec<_>>(), [digest.as_str()]);
    assert!(fixture.has_bytes(&digest));
    fixture.metadata.release_quarantine().await.unwrap();
    assert_eq!(fixture.metadata.health(), Health::Healthy);
    fixture.reopen(|options| options.path = other.clone()).await;
    assert_eq!(fixture.metadata.health(), Health::Healthy);
    fixture.metadata.collect().await.unwrap();
    assert!(!fixture.has_bytes(&digest), "after the release nothing speaks of it");
}

#[tokio::test]
async fn a_folder_that_lost_its_identity_means_quarantine_too() {
    let mut fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", labels([(ROOT, "x")])).await.unwrap();
    std::fs::remove_file(fixture.root.path().join("content/metadata-id")).unwrap();
    fixture.reopen(|_| {}).await;
    assert!(!fixture.metadata.health().is_healthy());
    assert!(fixture.view("a").content().info(&digest).await.is_ok(), "rows stay");
    fixture.metadata.release_quarantine().await.unwrap();
    fixture.reopen(|_| {}).await;
    assert!(fixture.metadata.health().is_healthy());
}

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_nothing_is_removed() {
    let mut fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", labels([(ROOT, "x")])).await.unwrap();
    fixture.metadata.close().await.unwrap();
    let path = fixture.root.path().join("metadata.db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in &mut bytes[100..6000] {
        *byte ^= 0x5a;
    }
    #[expect(clippy::disallowed_methods, reason = "damage need not be durable")]
    std::fs::write(&path, bytes).unwrap();
    fixture.reopen(|_| {}).await;
    let Health::Quarantine { set_aside: Some(set_aside), .. } = fixture.metadata.health() else {
        panic!("{:?}", fixture.metadata.health())
    };
    assert!(set_aside.exists());
    assert!(fixture.has_bytes(&digest));
    assert_eq!(kind(fixture.metadata.collect().await), ErrorKind::FailedPrecondition);
    fixture.reopen(|_| {}).await;
    assert!(!fixture.metadata.health().is_healthy(), "it stays so until somebody looks");
    assert!(fixture.has_bytes(&digest));
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_refused() {
    let fixture = Fixture::new().await;
    let options =
        corten_metadata::Options::new(fixture.root.path().join("metadata.db"), fixture.content.clone());
    assert_eq!(kind(corten_metadata::Metadata::open(options).await), ErrorKind::Unavailable);
}
