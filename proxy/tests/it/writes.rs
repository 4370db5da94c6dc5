//! Open ingests.

use bytes::Bytes;
use corten_content_store::{BlobReader, CommitOptions, Hasher, IngestOptions, Ingester};
use corten_proxy::MAX_MESSAGE_BYTES;
use corten_types::{Algorithm, ErrorKind};

#[tokio::test]
async fn more_than_a_message_holds_is_written_and_read_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, proxy) = crate::content(folder.path());
    let bytes: Bytes = (0..MAX_MESSAGE_BYTES + 5).map(|number| (number / 1000) as u8).collect();
    let mut ingest = proxy.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write(bytes.clone()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, bytes.len() as u64);
    let info = ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(info.digest, Hasher::digest_of(Algorithm::Sha256, &bytes));
    let blob = proxy.open(&info.digest).await.unwrap();
    assert!(blob.read_at(0, usize::MAX).await.unwrap() == bytes, "the bytes differ");
}

#[tokio::test]
async fn the_key_is_free_when_the_commit_returns() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, proxy) = crate::content(folder.path());
    for content in ["one", "two", "three"] {
        let mut ingest = proxy.ingest("k", IngestOptions::default()).await.unwrap();
        ingest.write(content.into()).await.unwrap();
        ingest.commit(CommitOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn an_empty_write_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, proxy) = crate::content(folder.path());
    let mut ingest = proxy.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write(Bytes::new()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    ingest.write(Bytes::new()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 3);
}

#[tokio::test]
async fn after_an_error_the_ingest_is_over_and_can_be_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, proxy) = crate::content(folder.path());
    let mut ingest = proxy.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    let wrong = Some(Hasher::digest_of(Algorithm::Sha256, b"other"));
    let options = CommitOptions { expected: wrong, ..CommitOptions::default() };
    assert_eq!(ingest.commit(options).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    assert!(ingest.write("def".into()).await.unwrap_err().message().contains("open it again"));
    assert!(ingest.digest().await.is_err());
}

#[tokio::test]
async fn a_size_that_the_protocol_cannot_say_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, proxy) = crate::content(folder.path());
    let options = IngestOptions { size_bytes: Some(u64::MAX), ..IngestOptions::default() };
    let refused = proxy.ingest("k", options).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn an_empty_blob_may_be_promised() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, proxy) = crate::content(folder.path());
    let mut ingest = proxy.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    let empty = CommitOptions { size_bytes: Some(0), ..CommitOptions::default() };
    assert_eq!(ingest.commit(empty.clone()).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    ingest.truncate().await.unwrap();
    assert_eq!(ingest.commit(empty).await.unwrap().size_bytes, 0);
}
