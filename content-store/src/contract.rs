//! The contract: what a content store does, in narrow traits.

use std::{fs::File, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use corten_filter::Filters;
use corten_types::{Digest, Labels, Result, UpdateMask};

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// The hash that the blob is addressed by.
    pub digest: Digest,
    /// The number of bytes.
    pub size_bytes: u64,
    /// When it was committed.
    pub created_at: SystemTime,
    /// When its labels were last changed.
    pub updated_at: SystemTime,
    /// Its labels; always empty in stores that keep none.
    pub labels: Labels,
}

/// The state of an ingest: bytes that are not a blob yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestStatus {
    /// The key it was opened with (containerd calls it `ref`).
    pub key: String,
    /// The number of bytes that it has.
    pub offset_bytes: u64,
    /// The number of bytes that it will have, if the writer said so.
    pub total_bytes: Option<u64>,
    /// The digest that it will have, if the writer said so.
    pub expected: Option<Digest>,
    /// When it was first opened.
    pub started_at: SystemTime,
    /// When bytes were last added.
    pub updated_at: SystemTime,
}

/// What is promised when an ingest is opened.
#[derive(Clone, Debug, Default)]
pub struct IngestOptions {
    /// The final number of bytes, if known. An ingest that was begun with another is started anew (row T18).
    pub size_bytes: Option<u64>,
    /// The final digest, if known. If that blob exists already, opening fails with `AlreadyExists` (row T10).
    pub expected: Option<Digest>,
}

/// What must hold for an ingest to become a blob.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The number of bytes it must have; `None` skips the check.
    pub size_bytes: Option<u64>,
    /// The digest it must have; `None` takes the SHA-256 of what was written.
    pub expected: Option<Digest>,
    /// The labels of the blob.
    pub labels: Labels,
}

/// An open blob. Its bytes never change.
#[async_trait]
pub trait Blob: Send + Sync {
    /// The number of bytes.
    fn size_bytes(&self) -> u64;

    /// Reads up to `length` bytes from `offset_bytes`; fewer only at the end, none past it.
    async fn read_at(&self, offset_bytes: u64, length: usize) -> Result<Bytes>;

    /// The file that holds exactly the blob's bytes, where there is one: for readers with a thread of their own.
    fn file(&self) -> Option<&File> {
        None
    }
}

/// Looking at blobs.
#[async_trait]
pub trait BlobReader: Send + Sync {
    /// What is known of the blob. `NotFound` if it does not exist here.
    async fn info(&self, digest: &Digest) -> Result<BlobInfo>;

    /// Opens the blob. It stays readable while it is open, also when it is deleted meanwhile.
    async fn open(&self, digest: &Digest) -> Result<Arc<dyn Blob>>;

    /// Up to `limit` blobs that match, in the order of their digests, beginning after `after`.
    async fn list(&self, filters: &Filters, after: Option<&Digest>, limit: usize) -> Result<Vec<BlobInfo>>;
}

/// Changing what exists.
#[async_trait]
pub trait BlobWriter: Send + Sync {
    /// Changes labels: paths `labels` and `labels.<key>`, none of them replaces all (row T02).
    async fn update(&self, digest: &Digest, labels: &Labels, mask: &UpdateMask) -> Result<BlobInfo>;

    /// Deletes the blob. `NotFound` if it does not exist here.
    async fn delete(&self, digest: &Digest) -> Result<()>;

    /// Deletes each of the blobs, as [`delete`](Self::delete) does; answers in their order. A store that can makes them
    /// durable together.
    async fn delete_all(&self, digests: &[Digest]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(digests.len());
        for digest in digests {
            results.push(self.delete(digest).await);
        }
        results
    }
}

/// Opening ingests.
#[async_trait]
pub trait Ingester: Send + Sync {
    /// Opens the ingest called `key`, or resumes it after the bytes already written.
    ///
    /// Bytes are invisible to readers until [`Ingest::commit`]. Dropping the value keeps them.
    ///
    /// # Errors
    /// - `Unavailable`: another writer holds `key`. Nothing changed; retry.
    /// - `AlreadyExists`: the expected blob exists.
    async fn ingest(&self, key: &str, options: IngestOptions) -> Result<Box<dyn Ingest>>;
}

/// Looking at ingests and giving them up.
#[async_trait]
pub trait IngestCatalog: Send + Sync {
    /// The state of one. `NotFound` if there is none called `key`.
    async fn ingest_status(&self, key: &str) -> Result<IngestStatus>;

    /// All that match, in the order of their keys.
    async fn list_ingests(&self, filters: &Filters) -> Result<Vec<IngestStatus>>;

    /// Removes the ingest and its bytes, also while a writer holds it: its commit then fails (row T08).
    async fn abort(&self, key: &str) -> Result<()>;
}

/// An open ingest. It holds the lock on its key until it is dropped.
#[async_trait]
pub trait Ingest: Send {
    /// The state now, without touching the disk.
    fn status(&self) -> IngestStatus;

    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Appends the pieces one after the other, all or none of them.
    ///
    /// A store that can does so without putting them together first.
    async fn write_pieces(&mut self, mut pieces: Vec<Bytes>) -> Result<()> {
        match pieces.len() {
            0 => Ok(()),
            1 => self.write(pieces.remove(0)).await,
            _ => self.write(pieces.concat().into()).await,
        }
    }

    /// What takes hints of the bytes that are to be written next, if the store makes use of them.
    fn announcer(&self) -> Option<Box<dyn Announcer>> {
        None
    }

    /// Throws away every byte; the next write begins at offset 0 (row T13).
    async fn truncate(&mut self) -> Result<()>;

    /// The SHA-256 of the bytes so far, or the hash of the expected digest's algorithm.
    async fn digest(&mut self) -> Result<Digest>;

    /// Makes the bytes a blob: durable and visible when this returns.
    ///
    /// # Errors
    /// - `FailedPrecondition`: size or digest are not what `options` say. The ingest is kept as it was.
    /// - `AlreadyExists`: the blob exists. The ingest is removed.
    async fn commit(&mut self, options: CommitOptions) -> Result<BlobInfo>;
}

/// Takes hints of what will probably be written into an ingest, so that the store can prepare for it: while a message still
/// arrives, its first bytes are hashed.
///
/// A hint never changes what an ingest holds, nor what any call on it answers, whatever is written after it or not.
pub trait Announcer: Send + Sync {
    /// Says that `bytes` will probably be written, after those that were announced before and are not written yet. They are of
    /// use if [`Ingest::write_pieces`] gets the same pieces, not copies of them; they stay in memory until something is written
    /// or the ingest is dropped. It does not block.
    fn announce(&self, bytes: Bytes);
}

/// An ingest that is read while somebody writes it. Nobody has checked its bytes yet: what is made of them must stay hidden
/// until [`committed`](Self::committed) has said what they are.
///
/// As a blob it has as many bytes as were promised, whatever is written. [`Blob::read_at`] waits for bytes that have not come
/// yet, gives fewer than were asked for where fewer have come, and fails with `Aborted` where no more will come: the ingest
/// was aborted or truncated, or its writer went without a commit.
#[async_trait]
pub trait FollowedIngest: Blob {
    /// Waits until the ingest is a blob of exactly the promised size, which is on stable storage, and returns its digest.
    ///
    /// # Errors
    /// `Aborted`: it will be none. `DataLoss`: it has another size. A commit that fails may be tried again and ends nothing.
    async fn committed(&self) -> Result<Digest>;
}

/// Reading ingests before they are blobs. Not every store can; it is no part of [`ContentStore`].
#[async_trait]
pub trait IngestFollower: Send + Sync {
    /// Opens the ingest called `key`, which somebody has open for writing and which is to have `size_bytes` bytes.
    ///
    /// # Errors
    /// `NotFound`: nobody writes it.
    async fn follow(&self, key: &str, size_bytes: u64) -> Result<Arc<dyn FollowedIngest>>;
}

/// A whole content store.
pub trait ContentStore: BlobReader + BlobWriter + Ingester + IngestCatalog {}

impl<T: BlobReader + BlobWriter + Ingester + IngestCatalog + ?Sized> ContentStore for T {}
