//! A call that is given up in the middle.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use corten_content_store::{BlobReader, CommitOptions, IngestCatalog, IngestOptions, Ingester};
use corten_types::ErrorKind;

use crate::{open, sha256};

/// Begins something and gives it up at once.
fn poll_once(future: impl Future) {
    let _either_way = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

#[tokio::test]
async fn a_commit_that_is_given_up_is_finished_nevertheless() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    poll_once(ingest.commit(CommitOptions::default()));
    drop(ingest);
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.info(&sha256(b"abc")).await.is_err() {
        assert!(Instant::now() < deadline, "the commit was not finished");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_write_that_is_given_up_is_whole_and_comes_before_the_next() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    poll_once(ingest.write(Bytes::from(vec![b'a'; 3 << 20])));
    ingest.write("b".into()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, (3 << 20) + 1);
    let mut expected = vec![b'a'; 3 << 20];
    expected.push(b'b');
    assert_eq!(ingest.digest().await.unwrap(), sha256(&expected));
}

#[tokio::test]
async fn the_key_of_an_open_that_is_given_up_becomes_free() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    for _ in 0..20 {
        poll_once(store.ingest("k", IngestOptions::default()));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match store.ingest("k", IngestOptions::default()).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
        assert!(Instant::now() < deadline, "the key stays locked");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn an_ingest_that_nobody_holds_is_aborted() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    drop(ingest);
    store.abort("k").await.unwrap();
    assert_eq!(store.ingest_status("k").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.ingest("k", IngestOptions::default()).await.unwrap().status().offset_bytes, 0);
}
