//! Blobs and ingests of namespaces: what the conformance suite cannot see (T04, T08, T10, T11, T16, T19, T21).

use corten_content_store::{BlobReader, BlobWriter, CommitOptions, IngestCatalog, IngestOptions, Ingester};
use corten_filter::Filters;
use corten_metadata::{ContentSharing, MetadataEvent, Options};
use corten_types::{ErrorKind, Labels};

use crate::support::{Fixture, kind, labels, put, sha256};

fn expecting(bytes: &[u8]) -> IngestOptions {
    IngestOptions { expected: Some(sha256(bytes)), size_bytes: None }
}

fn isolated(options: &mut Options) {
    options.content_sharing = ContentSharing::Isolated;
}

async fn leased_content(fixture: &Fixture, lease: &str) -> Vec<String> {
    let resources = fixture.view("a").leases().list_resources(lease).await.unwrap();
    resources.into_iter().map(|resource| format!("{}:{}", resource.kind, resource.id)).collect()
}

#[tokio::test]
async fn a_blob_of_one_namespace_is_unknown_in_another() {
    let fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let other = fixture.view("b").content();
    assert_eq!(kind(other.info(&digest).await), ErrorKind::NotFound);
    assert_eq!(other.open(&digest).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(kind(other.delete(&digest).await), ErrorKind::NotFound);
    assert!(other.list(&Filters::all(), None, 10).await.unwrap().is_empty());
    let size_bytes = 4;
    let created = MetadataEvent::ContentCreate { digest: digest.clone(), size_bytes };
    assert_eq!(fixture.events.take(), [("a".to_owned(), created)]);
    fixture.view("a").content().delete(&digest).await.unwrap();
    assert_eq!(fixture.events.events(), [MetadataEvent::ContentDelete { digest }]);
}

#[tokio::test]
async fn a_shared_blob_needs_no_bytes() {
    let fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let content = fixture.view("b").content();
    let mut ingest = content.ingest("ref", expecting(b"blob")).await.unwrap();
    let status = ingest.status();
    assert_eq!(
        (status.offset_bytes, status.total_bytes, status.expected),
        (4, Some(4), Some(digest.clone()))
    );
    assert_eq!(content.ingest_status("ref").await.unwrap().offset_bytes, 4);
    assert_eq!(ingest.digest().await.unwrap(), digest);
    assert_eq!(kind(content.ingest("ref", expecting(b"blob")).await.map(drop)), ErrorKind::Unavailable);
    let wrong = CommitOptions { size_bytes: Some(5), ..CommitOptions::default() };
    assert_eq!(kind(ingest.commit(wrong).await), ErrorKind::FailedPrecondition);
    let options = CommitOptions { labels: labels([("l", "1")]), ..CommitOptions::default() };
    assert_eq!(ingest.commit(options).await.unwrap().labels, labels([("l", "1")]));
    assert_eq!(content.info(&digest).await.unwrap().size_bytes, 4);
    let other_size = IngestOptions { size_bytes: Some(9), ..expecting(b"blob") };
    let ingest = fixture.view("c").content().ingest("ref", other_size).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 0, "with another size it is another blob");
}

#[tokio::test]
async fn a_writer_may_leave_the_fast_path() {
    let fixture = Fixture::new().await;
    put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let content = fixture.view("b").content();
    let mut ingest = content.ingest("ref", expecting(b"blob")).await.unwrap();
    ingest.truncate().await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 0);
    ingest.write("blob".into()).await.unwrap();
    ingest.commit(CommitOptions::default()).await.unwrap();
    let content = fixture.view("c").content();
    let mut ingest = content.ingest("ref", expecting(b"blob")).await.unwrap();
    ingest.write("+more".into()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 9);
    let digest = ingest.commit(CommitOptions::default()).await.unwrap().digest;
    assert_eq!(digest, sha256(b"blob+more"));
}

#[tokio::test]
async fn isolated_namespaces_must_send_the_bytes_unless_the_owner_shares() {
    let fixture = Fixture::with(isolated).await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let content = fixture.view("b").content();
    let mut ingest = content.ingest("ref", expecting(b"blob")).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 0);
    ingest.write("lies".into()).await.unwrap();
    let promised = CommitOptions { expected: Some(digest.clone()), ..CommitOptions::default() };
    assert_eq!(kind(ingest.commit(promised.clone()).await), ErrorKind::FailedPrecondition);
    ingest.truncate().await.unwrap();
    ingest.write("blob".into()).await.unwrap();
    ingest.commit(promised).await.unwrap();
    assert_eq!(content.info(&digest).await.unwrap().size_bytes, 4);
    let share = labels([("containerd.io/namespace.shareable", "true")]);
    let all = corten_types::UpdateMask::replace_all();
    fixture.metadata.namespaces().update(&"a".parse().unwrap(), &share, &all).await.unwrap();
    let ingest = fixture.view("c").content().ingest("ref", expecting(b"blob")).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 4);
}

#[tokio::test]
async fn what_exists_already_joins_the_lease_nevertheless() {
    let fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let leases = fixture.view("a").leases();
    leases.create(Some("opened"), Labels::new()).await.unwrap();
    leases.create(Some("committed"), Labels::new()).await.unwrap();
    let content = fixture.leased("a", "opened").content();
    assert_eq!(kind(content.ingest("ref", expecting(b"blob")).await.map(drop)), ErrorKind::AlreadyExists);
    assert_eq!(leased_content(&fixture, "opened").await, [format!("content:{digest}")]);
    let content = fixture.leased("a", "committed").content();
    let mut ingest = content.ingest("ref", IngestOptions::default()).await.unwrap();
    ingest.write("blob".into()).await.unwrap();
    assert_eq!(leased_content(&fixture, "committed").await, ["ingests:ref"]);
    assert_eq!(kind(ingest.commit(CommitOptions::default()).await), ErrorKind::AlreadyExists);
    assert_eq!(leased_content(&fixture, "committed").await, [format!("content:{digest}")]);
    assert!(content.list_ingests(&Filters::all()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_that_does_not_exist_is_refused_by_what_creates() {
    let fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let content = fixture.leased("a", "absent").content();
    assert_eq!(content.info(&digest).await.unwrap().digest, digest, "reads do not care");
    let refused = content.ingest("ref", IngestOptions::default()).await.map(drop);
    assert_eq!(kind(refused), ErrorKind::NotFound);
    assert_eq!(kind(content.ingest("ref", expecting(b"blob")).await.map(drop)), ErrorKind::NotFound);
    assert!(content.list_ingests(&Filters::all()).await.unwrap().is_empty());
    content.delete(&digest).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_goes_during_an_ingest_fails_the_commit_and_keeps_the_ingest() {
    let fixture = Fixture::new().await;
    fixture.view("a").leases().create(Some("l"), Labels::new()).await.unwrap();
    let content = fixture.leased("a", "l").content();
    let mut ingest = content.ingest("ref", IngestOptions::default()).await.unwrap();
    ingest.write("blob".into()).await.unwrap();
    fixture.view("a").leases().delete("l").await.unwrap();
    assert_eq!(kind(ingest.commit(CommitOptions::default()).await), ErrorKind::NotFound);
    assert!(!fixture.has_bytes(&sha256(b"blob")));
    fixture.view("a").leases().create(Some("l"), Labels::new()).await.unwrap();
    ingest.commit(CommitOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_commit_after_an_abort_fails() {
    let fixture = Fixture::new().await;
    let content = fixture.view("a").content();
    let mut ingest = content.ingest("ref", IngestOptions::default()).await.unwrap();
    ingest.write("blob".into()).await.unwrap();
    content.abort("ref").await.unwrap();
    assert_eq!(kind(ingest.commit(CommitOptions::default()).await), ErrorKind::NotFound);
    assert_eq!(kind(content.abort("ref").await), ErrorKind::NotFound);
    assert_eq!(kind(content.info(&sha256(b"blob")).await), ErrorKind::NotFound);
    drop(ingest);
    let again = content.ingest("ref", IngestOptions::default()).await.unwrap();
    assert_eq!(again.status().offset_bytes, 0);
}

#[tokio::test]
async fn a_commit_goes_on_when_nobody_waits_for_it() {
    let fixture = Fixture::new().await;
    let content = fixture.view("a").content();
    let mut ingest = content.ingest("ref", IngestOptions::default()).await.unwrap();
    ingest.write("blob".into()).await.unwrap();
    {
        let mut commit = ingest.commit(CommitOptions::default());
        let once = std::future::poll_fn(|context| {
            let _ = commit.as_mut().poll(context);
            std::task::Poll::Ready(())
        });
        once.await;
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while content.info(&sha256(b"blob")).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the commit was given up");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
