//! Ingests of one namespace: their rows, and the fast path for blobs that are there already (T09-T20).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use corten_content_store::{Announcer, BlobInfo, CommitOptions, Ingest, IngestOptions, IngestStatus};
use corten_database::{Refusal, rusqlite::Connection};
use corten_types::{Digest, Error, ErrorKind, Result};

use super::{BLOBS, INGESTS, find_ingest, info_of};
use crate::{
    ContentSharing, MetadataEvent, NamespaceInfo,
    change::Change,
    locks::HeldKey,
    mask,
    node::{Kind, Node},
    row,
    tables::{BlobRow, IngestRow},
    view::View,
};

/// How long an ingest without a lease is kept (T19).
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// The label that lets other namespaces have the blobs of this one (G04).
const SHAREABLE: &str = "containerd.io/namespace.shareable";

/// How much of a blob that is there already is copied at a time, if a writer changes its mind: bytes.
const COPY_BYTES: usize = 1 << 20;

/// Where the bytes are.
enum Source {
    /// In an ingest of the store below.
    Backend(Box<dyn Ingest>),
    /// In a blob that is there already (T11).
    Shared { digest: Digest, size_bytes: u64 },
}

/// An ingest that holds the lock on its ref.
struct Open {
    view: View,
    row: IngestRow,
    options: IngestOptions,
    source: Source,
    _held: HeldKey,
}

/// Opens the ingest `key` of the view's namespace.
pub(super) async fn open(view: &View, key: &str, options: IngestOptions) -> Result<Box<dyn Ingest>> {
    if key.is_empty() {
        return Err(Error::invalid_argument("the ref of an ingest must not be empty"));
    }
    let metadata = &view.metadata;
    let locked = |since| Error::unavailable(format!("ref {key} locked for {since:?}"));
    let held = metadata.held_refs().hold(format!("{}/{key}", view.namespace)).map_err(locked)?;
    let shared_size = match &options.expected {
        None => None,
        Some(expected) => {
            let guard = metadata.digest_locks().lock(expected.as_str()).await;
            refuse_existing(view, expected).await?;
            let size = shared_size(view, expected, options.size_bytes).await?;
            if let Some(size_bytes) = size {
                let row = write_row(view, key, &options, Some(size_bytes)).await?;
                drop(guard);
                let source = Source::Shared { digest: expected.clone(), size_bytes };
                let open = Open { view: view.clone(), row, options, source, _held: held };
                return Ok(Box::new(NamespacedIngest::new(open)));
            }
            size
        }
    };
    let row = write_row(view, key, &options, shared_size).await?;
    let source = Source::Backend(open_backend(view, &row.backend_ref, &options).await?);
    Ok(Box::new(NamespacedIngest::new(Open { view: view.clone(), row, options, source, _held: held })))
}

/// T10: if the namespace has the blob, the lease keeps it from now on, and the caller hears that it exists.
async fn refuse_existing(view: &View, expected: &Digest) -> Result<()> {
    let (namespace, digest) = (view.namespace.clone(), expected.clone());
    let exists = move |connection: &Connection| {
        Ok(row::get::<BlobRow>(connection, &[namespace.as_str(), digest.as_str()])?.is_some())
    };
    if !view.metadata.read(exists).await? {
        return Ok(());
    }
    let (view, expected) = (view.clone(), expected.clone());
    let metadata = view.metadata.clone();
    metadata
        .write(move |change| {
            let keys = [view.namespace.as_str(), expected.as_str()];
            if row::get::<BlobRow>(change.connection, &keys)?.is_none() {
                return Ok(());
            }
            change.lease(&view.namespace, view.lease.as_deref(), BLOBS, expected.as_str())?;
            Err(Refusal::Commit(exists_already(&expected)))
        })
        .await
}

fn exists_already(digest: &Digest) -> Error {
    Error::already_exists(format!("content {digest}"))
}

/// The length of the blob, if the namespace may have it without sending its bytes (T11, G04).
async fn shared_size(view: &View, expected: &Digest, size_bytes: Option<u64>) -> Result<Option<u64>> {
    let metadata = &view.metadata;
    if metadata.content_sharing() == ContentSharing::Isolated {
        let digest = expected.clone();
        if !metadata.read(move |connection| has_generous_owner(connection, &digest)).await? {
            return Ok(None);
        }
    }
    match metadata.content().info(expected).await {
        Ok(info) => {
            let fits = size_bytes.is_none_or(|size| size == info.size_bytes);
            Ok(fits.then_some(info.size_bytes))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_generous_owner(connection: &Connection, digest: &Digest) -> Result<bool> {
    let mut owners: Vec<String> = Vec::new();
    let text = "SELECT namespace FROM blobs WHERE digest = ?1";
    row::query(connection, text, [digest.as_str()], |row| {
        owners.push(row.get(0)?);
        Ok(())
    })?;
    for owner in owners {
        let info: Option<NamespaceInfo> = row::get(connection, &[&owner])?;
        if info.is_some_and(|info| info.labels.get(SHAREABLE).is_some_and(|value| value == "true")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the row of the ingest; with `shared_size` for one whose bytes are there already.
async fn write_row(
    view: &View,
    key: &str,
    options: &IngestOptions,
    shared_size: Option<u64>,
) -> Result<IngestRow> {
    let backend_ref = match shared_size {
        Some(_) => String::new(),
        None => format!("{}/{}/{key}", view.namespace, view.metadata.next_sequence().await?),
    };
    let (view, key, expected) = (view.clone(), key.to_owned(), options.expected.clone());
    let metadata = view.metadata.clone();
    metadata
        .write(move |change| {
            let namespace = view.namespace.as_str();
            change.ensure_namespace(&view.namespace)?;
            change.lease(&view.namespace, view.lease.as_deref(), INGESTS, &key)?;
            let old: Option<IngestRow> = row::get(change.connection, &[namespace, &key])?;
            let mut row = IngestRow {
                namespace: namespace.to_owned(),
                key: key.clone(),
                backend_ref: backend_ref.clone(),
                expected: expected.clone(),
                size_bytes: shared_size.unwrap_or_default(),
                started_at: change.now,
                expires_at: view.lease.is_none().then(|| change.now + EXPIRY),
            };
            if let Some(old) = old.filter(|old| !old.backend_ref.is_empty()) {
                if shared_size.is_some() {
                    change.bury(INGESTS, &old.backend_ref)?;
                } else {
                    row.backend_ref = old.backend_ref;
                    row.started_at = old.started_at;
                }
            }
            row::replace(change.connection, &row)?;
            change.touch(|| Node::new(Kind::Ingest, &namespace.into(), key.as_str()));
            Ok(row)
        })
        .await
}

/// Opens the ingest in the store below, which may have the blob although this namespace must send its bytes.
async fn open_backend(view: &View, backend_ref: &str, options: &IngestOptions) -> Result<Box<dyn Ingest>> {
    let content = view.metadata.content();
    match content.ingest(backend_ref, options.clone()).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let blind = IngestOptions { expected: None, ..options.clone() };
            content.ingest(backend_ref, blind).await
        }
        opened => opened,
    }
}

/// What holds before the bytes are given to the store below.
enum Standing {
    /// The namespace has the blob: the ingest is over.
    Exists,
    /// Go on.
    New,
}

impl Open {
    fn status(&self) -> IngestStatus {
        match &self.source {
            Source::Backend(ingest) => IngestStatus { key: self.row.key.clone(), ..ingest.status() },
            Source::Shared { .. } => super::shared_status(&self.row),
        }
    }

    /// Leaves the fast path: the bytes that were promised are copied, or dropped if `empty`.
    async fn materialize(&mut self, empty: bool) -> Result<&mut Box<dyn Ingest>> {
        if let Source::Shared { digest, size_bytes } = &self.source {
            let (digest, size_bytes) = (digest.clone(), *size_bytes);
            let row = write_row(&self.view, &self.row.key, &self.options, None).await?;
            let mut ingest = open_backend(&self.view, &row.backend_ref, &self.options).await?;
            if ingest.status().offset_bytes > 0 {
                ingest.truncate().await?;
            }
            if !empty {
                let blob = self.view.metadata.content().open(&digest).await?;
                let mut offset = 0;
                while offset < size_bytes {
                    let bytes = blob.read_at(offset, COPY_BYTES).await?;
                    if bytes.is_empty() {
                        return Err(Error::data_loss(format!("blob {digest} is shorter than it should be")));
                    }
                    offset += bytes.len() as u64;
                    ingest.write(bytes).await?;
                }
            }
            self.row = row;
            self.source = Source::Backend(ingest);
        }
        match &mut self.source {
            Source::Backend(ingest) => Ok(ingest),
            Source::Shared { .. } => unreachable!("the fast path was left above"),
        }
    }

    /// The digest and length that the blob will have, checked as far as they are known without the store below.
    async fn promise(&mut self, options: &CommitOptions) -> Result<(Digest, u64)> {
        let (actual, size_bytes) = match &mut self.source {
            Source::Shared { digest, size_bytes } => (digest.clone(), *size_bytes),
            Source::Backend(ingest) => (ingest.digest().await?, ingest.status().offset_bytes),
        };
        let refuse =
            |what: String| Err(Error::failed_precondition(format!("ingest {:?} {what}", self.row.key)));
        if let Some(wanted) = options.size_bytes.filter(|&wanted| wanted != size_bytes) {
            return refuse(format!("has {size_bytes} bytes, not {wanted}"));
        }
        match &options.expected {
            // A hash of another kind is computed by the store below, when it commits.
            Some(wanted) if wanted.algorithm() != actual.algorithm() => Ok((wanted.clone(), size_bytes)),
            Some(wanted) if *wanted != actual => refuse(format!("hashes to {actual}, not {wanted}")),
            _ => Ok((actual, size_bytes)),
        }
    }

    async fn commit(&mut self, mut options: CommitOptions) -> Result<BlobInfo> {
        mask::finish_labels(&mut options.labels)?;
        let (digest, size_bytes) = self.promise(&options).await?;
        let metadata = self.view.metadata.clone();
        let _guard = metadata.digest_locks().lock(digest.as_str()).await;
        let standing = {
            let (view, row, digest) = (self.view.clone(), self.row.clone(), digest.clone());
            metadata.read(move |connection| standing(connection, &view, &row, &digest)).await?
        };
        if matches!(standing, Standing::New) {
            // Before the ingest becomes a blob: then nothing has changed.
            metadata.check_room()?;
            match &mut self.source {
                Source::Backend(ingest) => {
                    let size_bytes = Some(size_bytes);
                    let below =
                        CommitOptions { size_bytes, expected: Some(digest.clone()), ..Default::default() };
                    match ingest.commit(below).await {
                        // Another namespace has the blob, and these bytes were compared with it.
                        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                        result => drop(result?),
                    }
                }
                Source::Shared { .. } => drop(metadata.content().info(&digest).await?),
            }
        }
        let (view, row, blob) = (self.view.clone(), self.row.clone(), digest.clone());
        let written =
            metadata.write(move |change| write_blob(change, &view, &row, &blob, size_bytes, &options)).await;
        match &written {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(_) if matches!(standing, Standing::New) => bury(&self.view, digest).await,
            _ => {}
        }
        written
    }
}

/// The blob is there and no row for it: the next collection looks after it.
async fn bury(view: &View, digest: Digest) {
    let buried = view.metadata.write_freeing(move |change| {
        change.deleted();
        Ok(change.bury(BLOBS, digest.as_str())?)
    });
    if let Err(error) = buried.await {
        tracing::warn!(%error, "a blob without a row stays until the next start");
    }
}

fn standing(connection: &Connection, view: &View, row: &IngestRow, digest: &Digest) -> Result<Standing> {
    check_alive(connection, view, row)?;
    if let Some(lease) = &view.lease {
        let text = "SELECT 1 FROM leases WHERE namespace = ?1 AND id = ?2";
        if !row::exists(connection, text, [view.namespace.as_str(), lease])? {
            return Err(Error::not_found(format!(
                "lease {lease:?} does not exist in namespace {}",
                view.namespace
            )));
        }
    }
    let found: Option<BlobRow> = row::get(connection, &[view.namespace.as_str(), digest.as_str()])?;
    Ok(if found.is_some() { Standing::Exists } else { Standing::New })
}

/// T08: a commit after an abort fails.
fn check_alive(connection: &Connection, view: &View, row: &IngestRow) -> Result<()> {
    let stored = find_ingest(connection, &view.namespace, &row.key)?;
    if stored.backend_ref == row.backend_ref {
        return Ok(());
    }
    Err(Error::not_found(format!("ingest {:?} was aborted and begun anew", row.key)))
}

/// The row of the blob in place of that of the ingest, under the caller's lease (T16).
fn write_blob(
    change: &mut Change<'_>,
    view: &View,
    ingest: &IngestRow,
    digest: &Digest,
    size_bytes: u64,
    options: &CommitOptions,
) -> Result<BlobInfo, Refusal> {
    let namespace = &view.namespace;
    check_alive(change.connection, view, ingest)?;
    row::delete::<IngestRow>(change.connection, &[namespace.as_str(), &ingest.key])?;
    change.release(namespace, view.lease.as_deref(), INGESTS, &ingest.key)?;
    change.lease(namespace, view.lease.as_deref(), BLOBS, digest.as_str())?;
    let row = BlobRow {
        namespace: namespace.as_str().to_owned(),
        digest: digest.clone(),
        size_bytes,
        labels: options.labels.clone(),
        created_at: change.now,
        updated_at: change.now,
    };
    if !row::insert(change.connection, &row)? {
        if !ingest.backend_ref.is_empty() {
            change.bury(INGESTS, &ingest.backend_ref)?;
        }
        return Err(Refusal::Commit(exists_already(digest)));
    }
    let owner = Node::new(Kind::Content, &namespace.as_str().into(), digest.as_str());
    change.index_labels(&owner, &corten_types::Labels::new(), &row.labels)?;
    change.touch(|| owner);
    change.publish(namespace, MetadataEvent::ContentCreate { digest: digest.clone(), size_bytes });
    Ok(info_of(row))
}

/// What callers hold. A commit that was begun goes on even if the caller does not wait for it.
struct NamespacedIngest {
    open: Option<Open>,
    last: IngestStatus,
}

impl NamespacedIngest {
    fn new(open: Open) -> Self {
        Self { last: open.status(), open: Some(open) }
    }

    fn open(&mut self) -> Result<&mut Open> {
        let over = || Error::failed_precondition(format!("ingest {:?} is over", self.last.key));
        self.open.as_mut().ok_or_else(over)
    }
}

#[async_trait]
impl Ingest for NamespacedIngest {
    fn status(&self) -> IngestStatus {
        self.open.as_ref().map_or_else(|| self.last.clone(), Open::status)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.open()?.materialize(false).await?.write(bytes).await
    }

    async fn write_pieces(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        if pieces.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        self.open()?.materialize(false).await?.write_pieces(pieces).await
    }

    fn announcer(&self) -> Option<Box<dyn Announcer>> {
        match &self.open.as_ref()?.source {
            Source::Backend(ingest) => ingest.announcer(),
            // Nothing is likely to be written.
            Source::Shared { .. } => None,
        }
    }

    async fn truncate(&mut self) -> Result<()> {
        let open = self.open()?;
        if matches!(&open.source, Source::Shared { size_bytes: 0, .. }) {
            return Ok(());
        }
        open.materialize(true).await?.truncate().await
    }

    async fn digest(&mut self) -> Result<Digest> {
        match &mut self.open()?.source {
            Source::Backend(ingest) => ingest.digest().await,
            Source::Shared { digest, .. } => Ok(digest.clone()),
        }
    }

    async fn commit(&mut self, options: CommitOptions) -> Result<BlobInfo> {
        self.last = self.status();
        self.open()?;
        let Some(mut open) = self.open.take() else { return Err(Error::internal("an open ingest is gone")) };
        let (open, result) = View::finish(async move {
            let result = open.commit(options).await;
            (open, result)
        })
        .await?;
        let over = result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::AlreadyExists);
        if !over {
            self.open = Some(open);
            return result;
        }
        let left_over = result.is_err() && !open.row.backend_ref.is_empty();
        let (view, backend_ref) = (open.view.clone(), open.row.backend_ref.clone());
        drop(open);
        if left_over && view.metadata.may_remove() {
            // The tombstone has it done by the next collection, if this fails.
            let _ = view.metadata.content().abort(&backend_ref).await;
        }
        result
    }
}
