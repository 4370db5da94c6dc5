//! Snapshots of one namespace over a snapshotter that all share.

mod create;
mod rename;

pub(crate) use rename::settle;

use std::sync::Arc;

use async_trait::async_trait;
use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_snapshotter::{SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Snapshotter, Usage};
use corten_types::{Error, ErrorKind, Labels, Mount, Namespace, Result, UpdateMask};

use crate::{MetadataEvent, change::Change, mask, node::Node, row, tables::SnapshotRow, view::View};

/// The snapshots of one namespace in one snapshotter (rows S01-S16, S19).
#[derive(Clone)]
pub struct Snapshots {
    view: View,
    name: Arc<str>,
    backend: Arc<dyn Snapshotter>,
}

/// Labels with this prefix are the snapshotter's business too (S15).
const INHERITED: &str = "containerd.io/snapshot/";
/// Names the snapshot that a remote snapshotter may have already (S12); also the snapshotter's business.
const TARGET: &str = "containerd.io/snapshot.ref";

/// How many rows a listing reads at once.
const PAGE_ROWS: usize = 100;

impl Snapshots {
    pub(crate) fn new(view: View, name: &str) -> Result<Self> {
        let backend = view
            .metadata
            .snapshotter(name)
            .ok_or_else(|| Error::invalid_argument(format!("snapshotter not loaded: {name}")))?;
        Ok(Self { view, name: name.into(), backend })
    }

    /// The kind of a lease's resource and of a tombstone.
    fn kind(&self) -> String {
        resource_kind(&self.name)
    }

    fn lock_key(&self, key: &str) -> String {
        format!("{}/{}/{key}", self.name, self.view.namespace)
    }

    async fn row(&self, key: &str) -> Result<SnapshotRow> {
        let (namespace, name, key) = (self.view.namespace.clone(), Arc::clone(&self.name), key.to_owned());
        self.view.metadata.read(move |connection| find(connection, &namespace, &name, &key)).await
    }
}

#[async_trait]
impl SnapshotReader for Snapshots {
    async fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        let row = self.row(key).await?;
        let below = self.backend.stat(&row.backend_key).await?;
        Ok(overlaid(below, row))
    }

    async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>> {
        let mut found = Vec::new();
        let mut after = after.map(str::to_owned);
        while found.len() < limit {
            let (namespace, name, from) =
                (self.view.namespace.clone(), Arc::clone(&self.name), after.clone());
            let rows: Vec<SnapshotRow> = self
                .view
                .metadata
                .read(move |connection| {
                    row::list(connection, &[namespace.as_str(), &name], from.as_deref(), PAGE_ROWS, |_| true)
                })
                .await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key.clone());
            for row in rows {
                match self.backend.stat(&row.backend_key).await {
                    Ok(below) => {
                        let info = overlaid(below, row);
                        if found.len() < limit && filters.matches(&info) {
                            found.push(info);
                        }
                    }
                    // The snapshotter lost it, or it was committed meanwhile (S09).
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        let row = self.row(key).await?;
        self.backend.usage(&row.backend_key).await
    }
}

#[async_trait]
impl SnapshotWriter for Snapshots {
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        create::create(self, key, parent, labels, create::Access::Write).await
    }

    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        create::create(self, key, parent, labels, create::Access::Read).await
    }

    async fn commit(&self, name: &str, key: &str, labels: Labels, parent: Option<&str>) -> Result<()> {
        rename::commit(self, name, key, labels, parent).await
    }
}

#[async_trait]
impl SnapshotKeeper for Snapshots {
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let row = self.row(key).await?;
        self.backend.mounts(&row.backend_key).await
    }

    async fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        let (namespace, name, key) = (self.view.namespace.clone(), Arc::clone(&self.name), key.to_owned());
        let (labels, asked) = (labels.clone(), mask.clone());
        let row = self
            .view
            .metadata
            .write(move |change| {
                let old = find(change.connection, &namespace, &name, &key)?;
                let mut row = old.clone();
                mask::set_labels(&format!("snapshot {key:?}"), &mut row.labels, &labels, &asked)?;
                row.updated_at = change.now;
                row::replace(change.connection, &row)?;
                stored_anew(change, &old.labels, &row)?;
                Ok(row)
            })
            .await?;
        let below = match inherited_mask(mask) {
            Some(mask) => self.backend.update(&row.backend_key, &inherited(&row.labels), &mask).await?,
            None => self.backend.stat(&row.backend_key).await?,
        };
        Ok(overlaid(below, row))
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let (this, key) = (self.clone(), key.to_owned());
        let _guard = self.view.metadata.snapshot_locks().lock(&self.lock_key(&key)).await;
        self.view
            .metadata
            .write_freeing(move |change| {
                let namespace = &this.view.namespace;
                let row = find(change.connection, namespace, &this.name, &key)?;
                if has_children(change.connection, &row)? {
                    let message = format!("cannot remove snapshot {key:?}: other snapshots stand on it");
                    return Err(Error::failed_precondition(message).into());
                }
                remove(change, namespace, &row)?;
                change.release(namespace, this.view.lease.as_deref(), &this.kind(), &key)?;
                change.deleted();
                Ok(())
            })
            .await
    }

    async fn cleanup(&self) -> Result<()> {
        self.backend.cleanup().await
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Snapshots")
            .field("view", &self.view)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The kind of a lease's resource and of a tombstone.
pub(crate) fn resource_kind(snapshotter: &str) -> String {
    format!("snapshots/{snapshotter}")
}

fn find(connection: &Connection, namespace: &Namespace, snapshotter: &str, key: &str) -> Result<SnapshotRow> {
    try_find(connection, namespace, snapshotter, key)?
        .ok_or_else(|| Error::not_found(format!("snapshot {key:?} in namespace {namespace}")))
}

fn try_find(
    connection: &Connection,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Result<Option<SnapshotRow>> {
    row::get(connection, &[namespace.as_str(), snapshotter, key])
}

/// The parent of a new snapshot; none for an empty name.
fn find_parent(
    connection: &Connection,
    namespace: &Namespace,
    snapshotter: &str,
    parent: &str,
) -> Result<Option<SnapshotRow>> {
    if parent.is_empty() {
        return Ok(None);
    }
    try_find(connection, namespace, snapshotter, parent)?
        .map(Some)
        .ok_or_else(|| Error::not_found(format!("parent snapshot {parent:?} in namespace {namespace}")))
}

fn has_children(connection: &Connection, row: &SnapshotRow) -> Result<bool> {
    let text = "SELECT 1 FROM snapshots WHERE namespace = ?1 AND snapshotter = ?2 AND parent = ?3";
    row::exists(connection, text, [&row.namespace, &row.snapshotter, &row.key])
}

/// Whether any namespace has a row for the snapshotter's snapshot (remote ones may be had by several).
pub(crate) fn is_owned(connection: &Connection, snapshotter: &str, backend_key: &str) -> Result<bool> {
    let text = "SELECT 1 FROM snapshots WHERE snapshotter = ?1 AND backend_key = ?2";
    row::exists(connection, text, [snapshotter, backend_key])
}

/// Removes the row, buries the trees and says so: for callers, and for the sweep (G28).
pub(crate) fn remove(change: &mut Change<'_>, namespace: &Namespace, row: &SnapshotRow) -> Result<()> {
    row::delete::<SnapshotRow>(change.connection, &[&row.namespace, &row.snapshotter, &row.key])?;
    change.index_labels(&node_of(row), &row.labels, &Labels::new())?;
    if !is_owned(change.connection, &row.snapshotter, &row.backend_key)? {
        change.bury(&resource_kind(&row.snapshotter), &row.backend_key)?;
    }
    if let Some(pending) = &row.pending {
        change.bury(&resource_kind(&row.snapshotter), &pending.backend_name)?;
    }
    let event = MetadataEvent::SnapshotRemove { key: row.key.clone(), snapshotter: row.snapshotter.clone() };
    change.publish(namespace, event);
    Ok(())
}

fn node_of(row: &SnapshotRow) -> Node {
    Node::snapshot(&row.namespace.as_str().into(), &row.snapshotter, &row.key)
}

fn stored_anew(change: &Change<'_>, old: &Labels, row: &SnapshotRow) -> Result<()> {
    change.index_labels(&node_of(row), old, &row.labels)?;
    change.touch(|| node_of(row));
    Ok(())
}

/// S07: names, parent and times are the namespace's; its labels cover the snapshotter's.
fn overlaid(below: SnapshotInfo, row: SnapshotRow) -> SnapshotInfo {
    let mut labels = below.labels;
    labels.extend(row.labels);
    SnapshotInfo {
        kind: below.kind,
        name: row.key,
        parent: row.parent,
        labels,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// S15: what the snapshotter hears of the labels.
fn inherited(labels: &Labels) -> Labels {
    labels
        .iter()
        .filter(|(key, _)| is_inherited(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn is_inherited(key: &str) -> bool {
    key.starts_with(INHERITED) || key == TARGET
}

/// S08: what the snapshotter hears of a mask; `None` if nothing.
fn inherited_mask(mask: &UpdateMask) -> Option<UpdateMask> {
    let whole = mask.replaces_all() || mask.paths().any(|path| path.key.is_none());
    if whole {
        return Some(UpdateMask::of(["labels"]));
    }
    let keys = mask.paths().filter_map(|path| path.key).filter(|key| is_inherited(key));
    let paths: Vec<String> = keys.map(|key| format!("labels.{key}")).collect();
    (!paths.is_empty()).then(|| UpdateMask::of(paths))
}
