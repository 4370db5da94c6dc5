//! Making rows: from what can be read of databases that were set aside, and from what describes itself.

mod bundles;
mod content;
mod salvage;

use corten_metadata::{Resource, SnapshotRow, Stored};
use corten_snapshotter::Inspector;
use corten_types::{ErrorKind, Result};

pub(crate) use content::blob_row;

use crate::{
    Store,
    catalogue::{Catalogue, TreeUse},
    snapshots::{IS_UNOWNED, parts},
    store::blocking,
};

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Databases that were set aside and read, and whether every page of them could be.
    pub read: Vec<(String, bool)>,
    /// Rows of snapshotters that were taken over.
    pub snapshotter_rows: u64,
    /// Rows of namespaces, images, containers, leases and so on that were taken over.
    pub rows: u64,
    /// Rows that were made for snapshots that described themselves.
    pub snapshots: u64,
    /// Rows that were made for blobs.
    pub blobs: u64,
    /// Rows that were made for containers whose tasks run.
    pub containers: u64,
}

/// Makes the rows that are missing: what was set aside is read, row by row, each believed because of its checksum and only if
/// what it speaks of is there; then snapshots, image blobs and bundles of running tasks that still have no row get one. What was
/// made without knowing who needs it is held by the lease `recovered` of its namespace. Rows that are there stay.
///
/// Afterwards the quarantine may be released with [`accept`](crate::accept).
///
/// # Errors
/// Those of the disk and of the databases. What was made stays; another rebuild goes on.
pub async fn rebuild(store: &Store) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::default();
    salvage::snapshotters(store, &mut rebuilt).await?;
    salvage::metadata(store, &mut rebuilt).await?;
    let described = describe_themselves(store).await?;
    rebuilt.snapshots = described.snapshots;
    rebuilt.blobs = described.blobs;
    rebuilt.containers = bundles::containers(store).await?;
    salvage::mark_read(store)?;
    Ok(rebuilt)
}

/// Makes rows for snapshots and blobs that no namespace has.
pub(crate) async fn describe_themselves(store: &Store) -> Result<Rebuilt> {
    let mut described = Rebuilt { snapshots: describe_snapshots(store).await?, ..Rebuilt::default() };
    described.blobs = content::describe(store).await?;
    Ok(described)
}

/// The names of snapshots carry namespace and key (`<namespace>/<number>/<key>`); parents and labels are in their rows.
async fn describe_snapshots(store: &Store) -> Result<u64> {
    let catalogue = Catalogue::read(store).await?;
    let mut made = 0;
    for (snapshotter, inspector) in &store.snapshotters {
        let mut after = 0;
        loop {
            let page: Vec<TreeUse> = catalogue.next_page(&mut after, IS_UNOWNED, &[snapshotter])?;
            if page.is_empty() {
                break;
            }
            for tree in page {
                made += u64::from(describe_snapshot(store, snapshotter, inspector, tree).await?);
            }
        }
    }
    Ok(made)
}

/// Makes the row of a snapshot, unless it has one by now.
async fn describe_snapshot(
    store: &Store,
    snapshotter: &str,
    inspector: &Inspector,
    TreeUse { id, name, .. }: TreeUse,
) -> Result<bool> {
    let Some((namespace, key)) = parts(&name) else { return Ok(false) };
    // Its row may be on its way.
    let _hold = store.metadata.hold_snapshot(namespace, snapshotter, key).await;
    if !store.metadata.snapshot_rows(snapshotter, &name).await?.is_empty() {
        return Ok(false);
    }
    let looking = inspector.clone();
    let row = match blocking(move || looking.row_of(id)).await {
        Err(error) if error.kind() == ErrorKind::DataLoss => None,
        row => row?,
    };
    let Some(row) = row.filter(|row| row.info.name == name) else { return Ok(false) };
    let parent = parts(&row.info.parent).map(|(_, key)| key.to_owned()).unwrap_or_default();
    let stored = Stored::Snapshot(SnapshotRow {
        namespace: namespace.to_owned(),
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        backend_key: row.info.name.clone(),
        parent,
        labels: row.info.labels.clone(),
        created_at: row.info.created_at,
        updated_at: row.info.updated_at,
        pending: None,
    });
    if store.metadata.restore(vec![stored]).await?.is_empty() {
        return Ok(false);
    }
    let resource = Resource { kind: format!("snapshots/{snapshotter}"), id: key.to_owned() };
    store.metadata.keep_recovered(namespace, vec![resource]).await?;
    Ok(true)
}
