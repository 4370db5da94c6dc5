//! Hashes (row T20).

use corten_types::Algorithm;

use super::support::{begin, begin_when_free, begin_with, exists, get, pattern, sha256, write};
use crate::{CommitOptions, ContentStore, Hasher, IngestOptions};

pub(super) async fn the_digest_so_far_is_that_of_the_bytes_so_far(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    assert_eq!(ingest.digest().await.expect("it is hashed"), sha256(b""));
    write(ingest.as_mut(), b"ab").await;
    assert_eq!(ingest.digest().await.expect("it is hashed"), sha256(b"ab"));
    write(ingest.as_mut(), b"cd").await;
    assert_eq!(ingest.digest().await.expect("it is hashed"), sha256(b"abcd"));
    ingest.truncate().await.expect("it is truncated");
    write(ingest.as_mut(), b"x").await;
    assert_eq!(ingest.digest().await.expect("it is hashed"), sha256(b"x"));
}

pub(super) async fn a_resumed_ingest_hashes_what_was_written_before(store: &dyn ContentStore) {
    let bytes = pattern(600_000);
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), &bytes[..500_000]).await;
    drop(ingest);
    let mut ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    assert_eq!(ingest.digest().await.expect("it is hashed"), sha256(&bytes[..500_000]));
    write(ingest.as_mut(), &bytes[500_000..]).await;
    let info = ingest.commit(CommitOptions::default()).await.expect("it is committed");
    assert_eq!(info.digest, sha256(&bytes));
    assert!(get(store, &info.digest).await == bytes, "the bytes differ");
}

pub(super) async fn without_an_expected_digest_the_blob_gets_its_sha256(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"unexpected").await;
    let info = ingest.commit(CommitOptions::default()).await.expect("it is committed");
    assert_eq!(info.digest, sha256(b"unexpected"));
    assert_eq!(info.size_bytes, 10);
    assert!(exists(store, &info.digest).await);
}

pub(super) async fn the_algorithm_of_the_expected_digest_is_used(store: &dyn ContentStore) {
    for algorithm in Algorithm::ALL {
        let bytes = algorithm.name().as_bytes();
        let digest = Hasher::digest_of(algorithm, bytes);
        let options = IngestOptions { expected: Some(digest.clone()), ..IngestOptions::default() };
        let mut ingest = begin_with(store, algorithm.name(), options).await;
        write(ingest.as_mut(), bytes).await;
        assert_eq!(ingest.digest().await.expect("it is hashed"), digest);
        let options = CommitOptions { expected: Some(digest.clone()), ..CommitOptions::default() };
        assert_eq!(ingest.commit(options).await.expect("it is committed").digest, digest);
        assert_eq!(get(store, &digest).await, bytes);
    }
}

pub(super) async fn another_algorithm_may_be_asked_for_at_the_commit(store: &dyn ContentStore) {
    let bytes = pattern(300_000);
    let digest = Hasher::digest_of(Algorithm::Sha512, &bytes);
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), &bytes).await;
    let options = CommitOptions { expected: Some(digest.clone()), ..CommitOptions::default() };
    assert_eq!(ingest.commit(options).await.expect("it is committed").digest, digest);
    assert!(get(store, &digest).await == bytes, "the bytes differ");
    assert!(!exists(store, &sha256(&bytes)).await);
}
