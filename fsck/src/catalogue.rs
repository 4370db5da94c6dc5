//! The rows of everything, read once: what a check compares with.

use std::collections::{BTreeMap, BTreeSet};

use corten_metadata::{DamagedRow, Metadata, SnapshotRow, Stored, Table};
use corten_snapshotter::{DamagedSnapshot, Row};
use corten_types::{Digest, Labels, Result};

use crate::{Store, store::blocking};

/// How many rows are read at once.
pub(crate) const PAGE_ROWS: usize = 1000;

/// Labels that refer to other content.
pub(crate) const CONTENT_REFERENCE: &str = "containerd.io/gc.ref.content";
/// Labels that refer to snapshots.
pub(crate) const SNAPSHOT_REFERENCE: &str = "containerd.io/gc.ref.snapshot.";

/// A blob that a namespace has.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) size_bytes: u64,
    /// The labels that refer to something.
    pub(crate) references: Vec<(String, String)>,
}

/// A container, as far as it refers to something.
#[derive(Clone, Debug)]
pub(crate) struct ContainerUse {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
}

/// An ingest of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct IngestUse {
    pub(crate) namespace: String,
    pub(crate) key: String,
    pub(crate) backend_ref: String,
}

/// Namespace, snapshotter and key.
pub(crate) type SnapshotKey = (String, String, String);

/// What the rows say.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) namespaces: BTreeSet<String>,
    /// Namespaces that something is in.
    pub(crate) used_namespaces: BTreeSet<String>,
    /// Namespace, name and target.
    pub(crate) images: Vec<(String, String, Digest)>,
    pub(crate) containers: Vec<ContainerUse>,
    pub(crate) blobs: BTreeMap<Digest, Vec<Owner>>,
    pub(crate) ingests: Vec<IngestUse>,
    pub(crate) snapshots: BTreeMap<SnapshotKey, SnapshotRow>,
    pub(crate) damaged: Vec<DamagedRow>,
    /// The rows of snapshotters by name of the snapshotter and number.
    pub(crate) trees: BTreeMap<String, BTreeMap<u64, Row>>,
    pub(crate) damaged_trees: Vec<(String, DamagedSnapshot)>,
    /// How many rows there are.
    pub(crate) rows: u64,
}

impl Catalogue {
    pub(crate) async fn read(store: &Store) -> Result<Self> {
        let mut catalogue = Self::default();
        for table in Table::ALL {
            catalogue.read_table(&store.metadata, table).await?;
        }
        for (name, inspector) in &store.snapshotters {
            let mut rows = BTreeMap::new();
            let mut after = 0;
            loop {
                let inspector = inspector.clone();
                let page = blocking(move || inspector.rows(after, PAGE_ROWS)).await?;
                let Some(last) = page.last() else { break };
                after = last.as_ref().map_or_else(|damaged| damaged.id, |row| row.id);
                catalogue.rows += page.len() as u64;
                for row in page {
                    match row {
                        Ok(row) => drop(rows.insert(row.id, row)),
                        Err(damaged) => catalogue.damaged_trees.push((name.clone(), damaged)),
                    }
                }
            }
            catalogue.trees.insert(name.clone(), rows);
        }
        Ok(catalogue)
    }

    async fn read_table(&mut self, metadata: &Metadata, table: Table) -> Result<()> {
        let mut after = None;
        loop {
            let page = metadata.stored(table, after, PAGE_ROWS).await?;
            self.rows += page.rows.len() as u64;
            page.rows.into_iter().for_each(|row| self.add(row));
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn add(&mut self, row: Stored) {
        match row {
            Stored::Namespace(info) => drop(self.namespaces.insert(info.name.to_string())),
            Stored::Image(row) => {
                self.used_namespaces.insert(row.namespace.clone());
                self.images.push((row.namespace, row.record.name, row.record.target.digest));
            }
            Stored::Container(row) => {
                self.used_namespaces.insert(row.namespace.clone());
                self.containers.push(ContainerUse {
                    namespace: row.namespace,
                    id: row.record.id,
                    image: row.record.image,
                    snapshotter: row.record.snapshotter,
                    snapshot_key: row.record.snapshot_key,
                });
            }
            Stored::Sandbox(row) => drop(self.used_namespaces.insert(row.namespace)),
            Stored::Lease(row) => drop(self.used_namespaces.insert(row.namespace)),
            Stored::Blob(row) => {
                self.used_namespaces.insert(row.namespace.clone());
                self.blobs.entry(row.digest).or_default().push(Owner {
                    namespace: row.namespace,
                    size_bytes: row.size_bytes,
                    references: references(row.labels),
                });
            }
            Stored::Ingest(row) => {
                self.used_namespaces.insert(row.namespace.clone());
                self.ingests.push(IngestUse {
                    namespace: row.namespace,
                    key: row.key,
                    backend_ref: row.backend_ref,
                });
            }
            Stored::Snapshot(row) => {
                self.used_namespaces.insert(row.namespace.clone());
                let key = (row.namespace.clone(), row.snapshotter.clone(), row.key.clone());
                self.snapshots.insert(key, row);
            }
            Stored::Resource(row) => drop(self.used_namespaces.insert(row.namespace)),
            Stored::Damaged(row) => self.damaged.push(row),
        }
    }

    /// The snapshots of all namespaces for a name in a snapshotter.
    pub(crate) fn snapshots_on<'a>(
        &'a self,
        snapshotter: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a SnapshotRow> {
        self.snapshots.values().filter(move |row| {
            row.snapshotter == snapshotter
                && (row.backend_key == name
                    || row.pending.as_ref().is_some_and(|pending| pending.backend_name == name))
        })
    }

    /// The container that uses a snapshot, if there is one.
    pub(crate) fn user_of(&self, namespace: &str, snapshotter: &str, key: &str) -> Option<&ContainerUse> {
        self.containers.iter().find(|container| {
            container.namespace == namespace
                && container.snapshotter == snapshotter
                && container.snapshot_key == key
        })
    }
}

fn references(labels: Labels) -> Vec<(String, String)> {
    labels
        .into_iter()
        .filter(|(key, _)| key.starts_with(CONTENT_REFERENCE) || key.starts_with(SNAPSHOT_REFERENCE))
        .collect()
}
