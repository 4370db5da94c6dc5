//! The store on a local filesystem: its files, its faults, and random use against a model.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and damages files"
)]

mod cancellation;
mod damage;
mod faults;
mod following;
mod labels;
mod layout;
mod model;
mod syncing;

use std::path::Path;

use bytes::Bytes;
use corten_content_store::{
    BlobInfo, BlobReader, CommitOptions, Hasher, IngestOptions, Ingester, LocalStore,
};
use corten_disk::Disk;
use corten_filter::Filters;
use corten_types::{Algorithm, Digest, Result};

fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, Disk::new()).unwrap()
}

async fn put(store: &LocalStore, key: &str, bytes: &[u8]) -> Result<BlobInfo> {
    let mut ingest = store.ingest(key, IngestOptions::default()).await?;
    ingest.truncate().await?;
    let middle = bytes.len() / 2;
    ingest.write(Bytes::copy_from_slice(&bytes[..middle])).await?;
    ingest.write(Bytes::copy_from_slice(&bytes[middle..])).await?;
    ingest.commit(CommitOptions { expected: Some(sha256(bytes)), ..CommitOptions::default() }).await
}

/// The bytes of every blob, which must be what their digests say.
async fn blobs(store: &LocalStore) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for info in store.list(&Filters::all(), None, usize::MAX).await.unwrap() {
        let blob = store.open(&info.digest).await.unwrap();
        let bytes = blob.read_at(0, usize::try_from(info.size_bytes).unwrap()).await.unwrap();
        assert_eq!(
            Hasher::digest_of(info.digest.algorithm(), &bytes),
            info.digest,
            "a blob is not what it says"
        );
        found.push(bytes.to_vec());
    }
    found.sort();
    found
}
