//! What cases have in common.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use bytes::Bytes;
use corten_types::{Algorithm, Digest, ErrorKind, Result};

use crate::{BlobInfo, CommitOptions, ContentStore, Hasher, Ingest, IngestOptions};

/// How long a store in another process may take to notice that a writer is gone.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

/// Bytes that differ from place to place.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

pub(super) async fn begin(store: &dyn ContentStore, key: &str) -> Box<dyn Ingest> {
    begin_with(store, key, IngestOptions::default()).await
}

pub(super) async fn begin_with(
    store: &dyn ContentStore,
    key: &str,
    options: IngestOptions,
) -> Box<dyn Ingest> {
    store.ingest(key, options).await.unwrap_or_else(|error| panic!("ingest {key} is not opened: {error:?}"))
}

/// Opens an ingest whose writer was just dropped: over a wire the store hears of that a little later.
pub(super) async fn begin_when_free(
    store: &dyn ContentStore,
    key: &str,
    options: IngestOptions,
) -> Box<dyn Ingest> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.ingest(key, options.clone()).await {
            Ok(ingest) => return ingest,
            Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("ingest {key} is not opened: {error:?}"),
        }
    }
}

pub(super) async fn write(ingest: &mut dyn Ingest, bytes: &[u8]) {
    ingest.write(Bytes::copy_from_slice(bytes)).await.expect("bytes are taken");
}

pub(super) async fn commit(ingest: &mut dyn Ingest, bytes: &[u8]) -> Result<BlobInfo> {
    let options = CommitOptions {
        size_bytes: Some(bytes.len() as u64),
        expected: Some(sha256(bytes)),
        ..CommitOptions::default()
    };
    ingest.commit(options).await
}

/// Puts a blob into the store.
pub(super) async fn put(store: &dyn ContentStore, bytes: &[u8]) -> BlobInfo {
    let digest = sha256(bytes);
    let mut ingest = begin(store, &format!("put-{digest}")).await;
    write(ingest.as_mut(), bytes).await;
    commit(ingest.as_mut(), bytes).await.expect("the blob is committed")
}

pub(super) async fn get(store: &dyn ContentStore, digest: &Digest) -> Vec<u8> {
    let blob = store.open(digest).await.expect("the blob is opened");
    let length = usize::try_from(blob.size_bytes()).expect("blobs of tests are small");
    blob.read_at(0, length).await.expect("the blob is read").to_vec()
}

pub(super) async fn exists(store: &dyn ContentStore, digest: &Digest) -> bool {
    match store.info(digest).await {
        Ok(info) => {
            assert_eq!(info.digest, *digest);
            true
        }
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("{digest}: {error:?}"),
    }
}

#[track_caller]
pub(super) fn assert_kind<T: Debug>(result: Result<T>, wanted: ErrorKind) {
    match result {
        Ok(value) => panic!("succeeded with {value:?}, should be {wanted:?}"),
        Err(error) => assert_eq!(error.kind(), wanted, "{error:?}"),
    }
}

/// The same for results that cannot be shown.
#[track_caller]
pub(super) fn assert_refused<T>(result: Result<T>, wanted: ErrorKind) {
    assert_kind(result.map(drop), wanted);
}
