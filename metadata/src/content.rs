//! Blobs of one namespace over a content store that all share.

mod ingest;

use std::sync::Arc;

use async_trait::async_trait;
use corten_content_store::{
    Blob, BlobInfo, BlobReader, BlobWriter, Ingest, IngestCatalog, IngestOptions, IngestStatus, Ingester,
};
use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_types::{Digest, Error, ErrorKind, Labels, Namespace, Result, UpdateMask};

use crate::{
    MetadataEvent,
    change::Change,
    mask,
    node::{Kind, Node},
    row,
    tables::{BlobRow, IngestRow},
    view::View,
};

/// The blobs of one namespace (rows T01-T24 as far as they are not the wire's).
#[derive(Clone, Debug)]
pub struct Content(pub(crate) View);

/// The kind of a lease's resource and of a tombstone.
pub(crate) const BLOBS: &str = "content";
/// The kind of a lease's resource and of a tombstone.
pub(crate) const INGESTS: &str = "ingests";

#[async_trait]
impl BlobReader for Content {
    async fn info(&self, digest: &Digest) -> Result<BlobInfo> {
        let (namespace, digest) = (self.0.namespace.clone(), digest.clone());
        self.0.metadata.read(move |connection| find(connection, &namespace, &digest)).await.map(info_of)
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn Blob>> {
        self.info(digest).await?;
        self.0.metadata.content().open(digest).await
    }

    async fn list(&self, filters: &Filters, after: Option<&Digest>, limit: usize) -> Result<Vec<BlobInfo>> {
        let (namespace, filters) = (self.0.namespace.clone(), filters.clone());
        let after = after.map(Digest::to_string);
        let rows = self
            .0
            .metadata
            .read(move |connection| {
                let matches =
                    |row: &BlobRow| filters.match_everything() || filters.matches(&info_of(row.clone()));
                row::list(connection, &[namespace.as_str()], after.as_deref(), limit, matches)
            })
            .await?;
        Ok(rows.into_iter().map(info_of).collect())
    }
}

#[async_trait]
impl BlobWriter for Content {
    async fn update(&self, digest: &Digest, labels: &Labels, mask: &UpdateMask) -> Result<BlobInfo> {
        let (namespace, digest) = (self.0.namespace.clone(), digest.clone());
        let (labels, mask) = (labels.clone(), mask.clone());
        self.0
            .metadata
            .write(move |change| {
                let old = find(change.connection, &namespace, &digest)?;
                let mut row = old.clone();
                mask::set_labels(&format!("blob {digest}"), &mut row.labels, &labels, &mask)?;
                row.updated_at = change.now;
                row::replace(change.connection, &row)?;
                let owner = Node::new(Kind::Content, &namespace.as_str().into(), digest.as_str());
                change.index_labels(&owner, &old.labels, &row.labels)?;
                change.touch(|| owner);
                Ok(info_of(row))
            })
            .await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        let (view, digest) = (self.0.clone(), digest.clone());
        self.0
            .metadata
            .write_freeing(move |change| {
                let row = find(change.connection, &view.namespace, &digest)?;
                remove(change, &row)?;
                change.release(&view.namespace, view.lease.as_deref(), BLOBS, digest.as_str())?;
                change.deleted();
                change.publish(&view.namespace, MetadataEvent::ContentDelete { digest: digest.clone() });
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Ingester for Content {
    async fn ingest(&self, key: &str, options: IngestOptions) -> Result<Box<dyn Ingest>> {
        ingest::open(&self.0, key, options).await
    }
}

#[async_trait]
impl IngestCatalog for Content {
    async fn ingest_status(&self, key: &str) -> Result<IngestStatus> {
        let (namespace, wanted) = (self.0.namespace.clone(), key.to_owned());
        let row =
            self.0.metadata.read(move |connection| find_ingest(connection, &namespace, &wanted)).await?;
        self.status_of(row).await
    }

    async fn list_ingests(&self, filters: &Filters) -> Result<Vec<IngestStatus>> {
        let namespace = self.0.namespace.clone();
        let rows: Vec<IngestRow> = self
            .0
            .metadata
            .read(move |connection| row::list(connection, &[namespace.as_str()], None, usize::MAX, |_| true))
            .await?;
        let mut found = Vec::new();
        for row in rows {
            match self.status_of(row).await {
                Ok(status) if filters.matches(&status) => found.push(status),
                Ok(_) => {}
                // The store below lost it, or it became a blob meanwhile (T07).
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn abort(&self, key: &str) -> Result<()> {
        let (view, wanted) = (self.0.clone(), key.to_owned());
        let row = self
            .0
            .metadata
            .write_freeing(move |change| {
                let row = find_ingest(change.connection, &view.namespace, &wanted)?;
                remove_ingest(change, &row)?;
                change.release(&view.namespace, view.lease.as_deref(), INGESTS, &wanted)?;
                change.deleted();
                Ok(row)
            })
            .await?;
        if !row.backend_ref.is_empty() && self.0.metadata.may_remove() {
            // If this fails, the tombstone that was just written has it done by the next collection.
            if let Err(error) = self.0.metadata.content().abort(&row.backend_ref).await {
                tracing::debug!(ingest = %key, %error, "the bytes of an aborted ingest stay for now");
            }
        }
        Ok(())
    }
}

impl Content {
    async fn status_of(&self, row: IngestRow) -> Result<IngestStatus> {
        if row.backend_ref.is_empty() {
            return Ok(shared_status(&row));
        }
        let status = self.0.metadata.content().ingest_status(&row.backend_ref).await?;
        Ok(IngestStatus { key: row.key, ..status })
    }
}

/// The state of an ingest whose bytes are those of a blob that is there already (T11).
fn shared_status(row: &IngestRow) -> IngestStatus {
    IngestStatus {
        key: row.key.clone(),
        offset_bytes: row.size_bytes,
        total_bytes: Some(row.size_bytes),
        expected: row.expected.clone(),
        started_at: row.started_at,
        updated_at: row.started_at,
    }
}

fn info_of(row: BlobRow) -> BlobInfo {
    BlobInfo {
        digest: row.digest,
        size_bytes: row.size_bytes,
        created_at: row.created_at,
        updated_at: row.updated_at,
        labels: row.labels,
    }
}

fn find(connection: &Connection, namespace: &Namespace, digest: &Digest) -> Result<BlobRow> {
    row::get(connection, &[namespace.as_str(), digest.as_str()])?
        .ok_or_else(|| Error::not_found(format!("blob {digest} in namespace {namespace}")))
}

fn find_ingest(connection: &Connection, namespace: &Namespace, key: &str) -> Result<IngestRow> {
    row::get(connection, &[namespace.as_str(), key])?
        .ok_or_else(|| Error::not_found(format!("ingest {key:?} in namespace {namespace}")))
}

/// Removes the row, and buries the blob if that was the last one for it: for callers, and for the sweep.
pub(crate) fn remove(change: &Change<'_>, row: &BlobRow) -> Result<()> {
    row::delete::<BlobRow>(change.connection, &[&row.namespace, row.digest.as_str()])?;
    let owner = Node::new(Kind::Content, &row.namespace.as_str().into(), row.digest.as_str());
    change.index_labels(&owner, &row.labels, &Labels::new())?;
    if !is_owned(change.connection, &row.digest)? {
        change.bury(BLOBS, row.digest.as_str())?;
    }
    Ok(())
}

/// Removes the row and buries the bytes: for callers, and for the sweep.
pub(crate) fn remove_ingest(change: &Change<'_>, row: &IngestRow) -> Result<()> {
    row::delete::<IngestRow>(change.connection, &[&row.namespace, &row.key])?;
    if !row.backend_ref.is_empty() {
        change.bury(INGESTS, &row.backend_ref)?;
    }
    Ok(())
}

/// Whether any namespace has the blob.
pub(crate) fn is_owned(connection: &Connection, digest: &Digest) -> Result<bool> {
    row::exists(connection, "SELECT 1 FROM blobs WHERE digest = ?1", [digest.as_str()])
}

/// Whether any namespace has the blob, or an ingest that takes its bytes from it.
pub(crate) fn is_needed(connection: &Connection, digest: &Digest) -> Result<bool> {
    let text = "SELECT 1 FROM ingests WHERE expected = ?1 AND backend_ref = ''";
    Ok(is_owned(connection, digest)? || row::exists(connection, text, [digest.as_str()])?)
}
