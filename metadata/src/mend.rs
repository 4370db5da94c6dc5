//! Changes that a repair makes: rows without touching bytes, in all namespaces at once. Whoever repairs sees to the bytes,
//! under the same locks as those who remove.

use corten_types::{Digest, Labels, Namespace, Result};

use crate::{
    DamagedRow, Lease, Metadata, MetadataEvent, NamespaceInfo, Resource, Stored,
    change::Change,
    inspect,
    locks::{HeldKey, KeyGuard},
    metadata::blocking,
    node::{Kind, Node},
    open::RECOVERED,
    row,
    tables::{BlobRow, IngestRow, SnapshotRow, within},
};

/// How many rows are restored in one transaction.
const RESTORED_TOGETHER: usize = 500;

/// Keeps commits and removals of one thing waiting until it is dropped.
#[derive(Debug)]
pub struct Hold {
    _guard: KeyGuard,
}

/// Keeps an ingest from being opened until it is dropped.
#[derive(Debug)]
pub struct IngestHold {
    _held: HeldKey,
}

impl Metadata {
    /// Holds the ref of an ingest. `None` if somebody has it open, who may be between its bytes and its row.
    #[must_use]
    pub fn hold_ingest(&self, namespace: &str, key: &str) -> Option<IngestHold> {
        let held = self.held_refs().hold(format!("{namespace}/{key}")).ok()?;
        Some(IngestHold { _held: held })
    }

    /// Holds a digest: no commit that expects it and no removal goes on meanwhile.
    pub async fn hold_blob(&self, digest: &Digest) -> Hold {
        Hold { _guard: self.digest_locks().lock(digest.as_str()).await }
    }

    /// Holds the key of a snapshot.
    pub async fn hold_snapshot(&self, namespace: &str, snapshotter: &str, key: &str) -> Hold {
        Hold { _guard: self.snapshot_locks().lock(&format!("{snapshotter}/{namespace}/{key}")).await }
    }

    /// Drops the rows of a blob in all namespaces, and says which had one. Its bytes stay.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub async fn forget_blob(&self, digest: &Digest) -> Result<Vec<String>> {
        let digest = digest.clone();
        self.write_freeing(move |change| {
            let mut namespaces: Vec<String> = Vec::new();
            let text = "SELECT namespace FROM blobs NOT INDEXED WHERE digest = ?1";
            row::query(change.connection, text, [digest.as_str()], |row| {
                namespaces.push(row.get(0)?);
                Ok(())
            })?;
            for name in &namespaces {
                let keys = [name.as_str(), digest.as_str()];
                let owner = Node::new(Kind::Content, &name.as_str().into(), digest.as_str());
                forget_labels(change, &owner)?;
                row::delete::<BlobRow>(change.connection, &keys)?;
                if let Ok(namespace) = name.parse::<Namespace>() {
                    change.publish(&namespace, MetadataEvent::ContentDelete { digest: digest.clone() });
                }
            }
            Ok(namespaces)
        })
        .await
    }

    /// Drops the rows of a snapshot of a snapshotter in all namespaces, and says their namespaces and keys. Its files stay.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub async fn forget_snapshot(
        &self,
        snapshotter: &str,
        backend_key: &str,
    ) -> Result<Vec<(String, String)>> {
        let (snapshotter, backend_key) = (snapshotter.to_owned(), backend_key.to_owned());
        self.write_freeing(move |change| {
            let mut keys: Vec<(String, String)> = Vec::new();
            let text = "SELECT namespace, key FROM snapshots NOT INDEXED WHERE snapshotter = ?1 AND backend_key = ?2";
            row::query(change.connection, text, [&snapshotter, &backend_key], |row| {
                keys.push((row.get(0)?, row.get(1)?));
                Ok(())
            })?;
            for (name, key) in &keys {
                forget_labels(change, &Node::snapshot(&name.as_str().into(), &snapshotter, key))?;
                row::delete::<SnapshotRow>(change.connection, &[name, &snapshotter, key])?;
                if let Ok(namespace) = name.parse::<Namespace>() {
                    let (key, snapshotter) = (key.clone(), snapshotter.clone());
                    change.publish(&namespace, MetadataEvent::SnapshotRemove { key, snapshotter });
                }
            }
            Ok(keys)
        })
        .await
    }

    /// Drops the row of an ingest. Its bytes stay. Whether there was one.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub async fn forget_ingest(&self, namespace: &str, key: &str) -> Result<bool> {
        let keys = [namespace.to_owned(), key.to_owned()];
        self.write_freeing(move |change| {
            Ok(row::delete::<IngestRow>(change.connection, &[&keys[0], &keys[1]])?)
        })
        .await
    }

    /// Drops a damaged row, unless it was written anew meanwhile. Whether it was there.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub async fn forget_damaged(&self, row: &DamagedRow) -> Result<bool> {
        let row = row.clone();
        self.write_freeing(move |change| Ok(inspect::delete(change.connection, &row)?)).await
    }

    /// Gives all rows of a blob this length.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub async fn correct_blob_size(&self, digest: &Digest, size_bytes: u64) -> Result<()> {
        let rows = self.blob_rows(digest).await?;
        self.write(move |change| {
            for old in &rows {
                let keys = [old.namespace.as_str(), old.digest.as_str()];
                if let Some(stored) = row::get::<BlobRow>(change.connection, &keys)? {
                    row::replace(change.connection, &BlobRow { size_bytes, ..stored })?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Adds the rows whose keys are free, with their namespaces, and says which were added. Damaged rows are passed over.
    ///
    /// # Errors
    /// Those of the database; some may have been added.
    pub async fn restore(&self, rows: Vec<Stored>) -> Result<Vec<Stored>> {
        let mut restored = Vec::new();
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let batch: Vec<Stored> = rows.by_ref().take(RESTORED_TOGETHER).collect();
            let added = self
                .write(move |change| {
                    let mut added = Vec::new();
                    for row in &batch {
                        if restore(change, row)? {
                            added.push(row.clone());
                        }
                    }
                    Ok(added)
                })
                .await?;
            restored.extend(added);
        }
        Ok(restored)
    }

    /// Makes leases keep what they kept: namespace, lease and resource. Leases that do not exist are passed over.
    ///
    /// # Errors
    /// Those of the database; some may have been added.
    pub async fn restore_resources(&self, resources: Vec<(String, String, Resource)>) -> Result<()> {
        for batch in resources.chunks(RESTORED_TOGETHER) {
            let batch = batch.to_vec();
            self.write(move |change| {
                for (namespace, lease, resource) in &batch {
                    let Ok(namespace) = namespace.parse::<Namespace>() else { continue };
                    if change.require_lease(&namespace, lease).is_ok() {
                        change.lease(&namespace, Some(lease), &resource.kind, &resource.id)?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Holds resources of a namespace by its lease `recovered`, which is made if need be, until the operator deletes it.
    ///
    /// # Errors
    /// Those of the database; some may be held.
    pub async fn keep_recovered(&self, namespace: &str, resources: Vec<Resource>) -> Result<()> {
        let Ok(namespace) = namespace.parse::<Namespace>() else { return Ok(()) };
        for batch in resources.chunks(RESTORED_TOGETHER) {
            let (namespace, batch) = (namespace.clone(), batch.to_vec());
            self.write(move |change| {
                change.ensure_namespace(&namespace)?;
                let lease = Lease { id: RECOVERED.to_owned(), labels: Labels::new(), created_at: change.now };
                row::insert(change.connection, &within(&namespace, lease))?;
                for resource in &batch {
                    change.lease(&namespace, Some(RECOVERED), &resource.kind, &resource.id)?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Makes every index of the database anew.
    ///
    /// # Errors
    /// Those of the database; nothing changed.
    pub async fn reindex(&self) -> Result<()> {
        let database = std::sync::Arc::clone(&self.inner.database);
        blocking(move || database.reindex().wait()).await
    }
}

/// Takes a node out of the index of back references, whatever its labels were.
fn forget_labels(change: &Change<'_>, owner: &Node) -> Result<()> {
    row::execute(
        change.connection,
        "DELETE FROM back_references WHERE namespace = ?1 AND kind = ?2 AND id = ?3",
        [&*owner.namespace, owner.kind.word(), &*owner.id],
    )
    .map(drop)
}

fn restore(change: &Change<'_>, stored: &Stored) -> Result<bool> {
    let connection = change.connection;
    let (namespace, added, owner, labels) = match stored {
        Stored::Namespace(info) => return restore_namespace(change, info),
        Stored::Image(row) => {
            let added = row::insert(connection, row)?;
            (&row.namespace, added, Some((Kind::Image, row.record.name.clone())), &row.record.labels)
        }
        Stored::Container(row) => {
            let added = row::insert(connection, row)?;
            (&row.namespace, added, Some((Kind::Container, row.record.id.clone())), &row.record.labels)
        }
        Stored::Resource(row) => {
            (&row.namespace, row::insert(connection, row)?, None, &row.record.info.labels)
        }
        Stored::Sandbox(row) => (&row.namespace, row::insert(connection, row)?, None, &row.record.labels),
        Stored::Lease(row) => {
            let added = row::insert(connection, row)?;
            (&row.namespace, added, Some((Kind::Lease, row.record.id.clone())), &row.record.labels)
        }
        Stored::Blob(row) => {
            let added = row::insert(connection, row)?;
            (&row.namespace, added, Some((Kind::Content, row.digest.to_string())), &row.labels)
        }
        Stored::Ingest(row) => {
            let added = row::insert(connection, row)?;
            let namespace: Namespace = row.namespace.parse()?;
            change.ensure_namespace(&namespace)?;
            return Ok(added);
        }
        Stored::Snapshot(row) => {
            let added = row::insert(connection, row)?;
            let id = format!("{}/{}", row.snapshotter, row.key);
            (&row.namespace, added, Some((Kind::Snapshot, id)), &row.labels)
        }
        Stored::Damaged(_) => return Ok(false),
    };
    if added {
        change.ensure_namespace(&namespace.parse()?)?;
        if let Some((kind, id)) = owner {
            let owner = Node::new(kind, &namespace.as_str().into(), id);
            change.index_labels(&owner, &Labels::new(), labels)?;
            change.touch(|| owner);
        }
    }
    Ok(added)
}

/// A namespace may be there already, without its labels, because something was made in it.
fn restore_namespace(change: &Change<'_>, info: &NamespaceInfo) -> Result<bool> {
    match row::get::<NamespaceInfo>(change.connection, &[info.name.as_str()])? {
        Some(present) if !present.labels.is_empty() || info.labels.is_empty() => Ok(false),
        _ => row::replace(change.connection, info).map(|()| true),
    }
}
