//! What is set right at open, before anybody is served (`consistency.md` §3 and §5).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_snapshotter::Snapshotter;
use corten_types::{Digest, ErrorKind, Labels, Namespace, Result};

use crate::{
    Collectible, Health, Lease, Metadata, Stored, Table,
    content::{BLOBS, INGESTS},
    identity::{self, Belongs},
    metadata::blocking,
    resources::{self, resource_kind},
    row, sequence, snapshots,
    tables::{BlobRow, IngestRow, SnapshotRow, within},
};

/// How many things of a store below are listed at once.
const PAGE: usize = 1000;

/// The lease that holds blobs in quarantine.
pub(crate) const RECOVERED: &str = "recovered";

/// What may be done about differences between rows and what is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// What no row speaks of is debris.
    Whole,
    /// The folders were not marked as belonging to this database until now: nothing is removed this time.
    Unproven,
    /// Nothing may be removed.
    Quarantine,
}

/// Sets right what a crash left.
pub(crate) async fn reconcile(metadata: &Metadata) -> Result<()> {
    doubt(metadata, &damaged_rows(metadata).await?);
    let trust = judge_folders(metadata).await?;
    let mut greatest = 0;
    for (name, snapshotter) in &metadata.inner.snapshotters {
        match reconcile_snapshots(metadata, name, snapshotter, trust).await {
            Ok(number) => greatest = greatest.max(number),
            // A snapshotter in another process may not be up yet; its snapshots are looked after at the next start.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(snapshotter = %name, %error, "snapshots are not compared with their rows");
            }
            // A row of its own is damaged: it is in quarantine, and so is everything here.
            Err(error) if error.kind() == ErrorKind::DataLoss => doubt(metadata, &[error.chain()]),
            Err(error) => return Err(error),
        }
    }
    for (kind, collectible) in &metadata.inner.collectibles {
        greatest = greatest.max(reconcile_resources(metadata, kind, collectible.as_ref(), trust).await?);
    }
    greatest = greatest.max(reconcile_content(metadata, trust).await?);
    metadata.sequence().reserve(metadata, greatest + 1).await
}

/// Looks whether there is a reason for quarantine, and changes nothing on the disk.
pub(crate) async fn judge_only(metadata: &Metadata) -> Result<()> {
    doubt(metadata, &damaged_rows(metadata).await?);
    compare_folders(metadata).await.map(drop)
}

/// Begins the quarantine, for this process, if there is a reason.
pub(crate) fn doubt(metadata: &Metadata, reasons: &[String]) {
    let mut health = metadata.inner.health.lock().unwrap_or_else(PoisonError::into_inner);
    if health.is_healthy() && !reasons.is_empty() {
        *health = Health::Quarantine { reason: reasons.join("; "), set_aside: None };
    }
}

/// Says which tables have rows with a wrong checksum: what they spoke of would look like debris.
async fn damaged_rows(metadata: &Metadata) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for table in Table::ALL {
        let mut after = None;
        let mut damaged = 0_usize;
        loop {
            let page = metadata.stored(table, after, PAGE).await?;
            damaged += page.rows.iter().filter(|row| matches!(row, Stored::Damaged(_))).count();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if damaged > 0 {
            found.push(format!("{damaged} rows of the table {} are damaged", table.name()));
        }
    }
    Ok(found)
}

/// Compares the identity in the folders with that of the database, and marks folders that nobody marked.
async fn judge_folders(metadata: &Metadata) -> Result<Trust> {
    let (files, known) = compare_folders(metadata).await?;
    if let Health::Quarantine { reason, .. } = metadata.health() {
        tracing::error!(%reason, "quarantine: nothing that is on the disk is removed");
        return Ok(Trust::Quarantine);
    }
    let proven = !files.is_empty() && files.iter().all(|(_, file)| *file == Belongs::Here);
    if !files.iter().all(|(folder, file)| *file == Belongs::Here && known.contains(&setting_of(folder))) {
        adopt_folders(metadata).await?;
    }
    Ok(if proven { Trust::Whole } else { Trust::Unproven })
}

/// What the file in each folder says, and the folders that had one.
async fn compare_folders(metadata: &Metadata) -> Result<(Vec<(PathBuf, Belongs)>, HashSet<String>)> {
    let inner = Arc::clone(&metadata.inner);
    let files = blocking(move || {
        let store_id = inner.database.store_id();
        inner
            .folders
            .iter()
            .map(|folder| Ok((folder.clone(), identity::compare(store_id, folder)?)))
            .collect::<Result<Vec<_>>>()
    })
    .await?;
    let known: HashSet<String> = metadata.read(known_folders).await?;
    let strange = files.iter().filter_map(|(folder, file)| match file {
        Belongs::Elsewhere(other) => Some(format!("{} belongs to the store {other:?}", folder.display())),
        // Perhaps its filesystem is not mounted: what its rows say is not lost yet.
        Belongs::Unknown if known.contains(&setting_of(folder)) => {
            Some(format!("{} has lost the file that says which store it belongs to", folder.display()))
        }
        _ => None,
    });
    let found: Vec<String> = strange.collect();
    doubt(metadata, &found);
    Ok((files, known))
}

/// Writes the identity of the database into every folder.
pub(crate) async fn adopt_folders(metadata: &Metadata) -> Result<()> {
    let inner = Arc::clone(&metadata.inner);
    blocking(move || {
        let store_id = inner.database.store_id();
        inner.folders.iter().try_for_each(|folder| identity::adopt(store_id, &inner.disk, folder))
    })
    .await?;
    let folders: Vec<String> = metadata.inner.folders.iter().map(|folder| setting_of(folder)).collect();
    metadata
        .write(move |change| {
            change.quiet();
            Ok(folders.iter().try_for_each(|name| {
                let text = "REPLACE INTO settings (name, value) VALUES (?1, 'adopted')";
                row::execute(change.connection, text, [name]).map(drop)
            })?)
        })
        .await
}

fn setting_of(folder: &Path) -> String {
    format!("folder {}", folder.display())
}

fn known_folders(connection: &Connection) -> Result<HashSet<String>> {
    let mut known = HashSet::new();
    row::query(connection, "SELECT name FROM settings WHERE value = 'adopted'", [], |row| {
        known.insert(row.get(0)?);
        Ok(())
    })?;
    Ok(known)
}

/// Carries announced commits through, drops rows without a snapshot and buries snapshots without a row. Answers with
/// the greatest number in a name.
async fn reconcile_snapshots(
    metadata: &Metadata,
    name: &str,
    snapshotter: &Arc<dyn Snapshotter>,
    trust: Trust,
) -> Result<u64> {
    let mut below = HashSet::new();
    let mut greatest = 0;
    let mut after: Option<String> = None;
    loop {
        let page = snapshotter.list(&Filters::all(), after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        for info in page {
            greatest = greatest.max(sequence::of_name(&info.name).unwrap_or_default());
            below.insert(info.name);
        }
    }
    let rows = whole_rows(metadata, Table::Snapshots, |row| match row {
        Stored::Snapshot(row) if row.snapshotter == name => Some(row),
        _ => None,
    })
    .await?;
    let mut owned = HashSet::new();
    for row in rows {
        let mut backend_key = row.backend_key.clone();
        if let Some(pending) = row.pending.clone()
            && snapshots::settle(metadata, snapshotter.as_ref(), row.clone()).await?
        {
            tracing::info!(key = %row.key, name = %pending.name, "a commit was carried through");
            backend_key = pending.backend_name;
        }
        if below.contains(&backend_key) {
            owned.insert(backend_key);
        } else if trust == Trust::Whole {
            drop_lost_snapshot(metadata, row).await?;
        }
    }
    if trust == Trust::Whole {
        let debris: Vec<String> = below.into_iter().filter(|key| !owned.contains(key)).collect();
        bury(metadata, snapshots::resource_kind(name), debris).await?;
    }
    Ok(greatest)
}

/// The rows of a table that are whole and wanted; damaged ones mean quarantine, and are passed over.
async fn whole_rows<T>(
    metadata: &Metadata,
    table: Table,
    pick: impl Fn(Stored) -> Option<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = metadata.stored(table, after, PAGE).await?;
        rows.extend(page.rows.into_iter().filter_map(&pick));
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

/// A row whose snapshot the snapshotter does not have.
async fn drop_lost_snapshot(metadata: &Metadata, row: SnapshotRow) -> Result<()> {
    tracing::error!(
        namespace = %row.namespace, snapshotter = %row.snapshotter, key = %row.key,
        "the snapshotter lost this snapshot; its row is dropped"
    );
    metadata
        .write(move |change| {
            let namespace: Namespace = row.namespace.parse()?;
            Ok(snapshots::remove(change, &namespace, &row)?)
        })
        .await
}

/// Drops rows whose thing is not whole or was never finished, and buries things without a row. Answers with the
/// greatest number.
async fn reconcile_resources(
    metadata: &Metadata,
    kind: &str,
    collectible: &dyn Collectible,
    trust: Trust,
) -> Result<u64> {
    let mut below: HashMap<u64, bool> =
        collectible.found().await?.into_iter().map(|found| (found.number, found.whole)).collect();
    let greatest = below.keys().copied().max().unwrap_or_default();
    let rows = whole_rows(metadata, Table::Resources, |row| match row {
        Stored::Resource(row) if row.record.kind == kind => Some(row),
        _ => None,
    })
    .await?;
    for row in rows {
        let whole = below.remove(&row.record.info.number).unwrap_or_default();
        if !whole || row.record.info.data.is_none() {
            let (namespace, name) = (&row.namespace, &row.record.info.name);
            tracing::info!(kind, %namespace, %name, "this is not there any more; its row is dropped");
            metadata
                .write(move |change| Ok(resources::remove(change, &row.namespace.parse()?, &row.record)?))
                .await?;
        }
    }
    if trust == Trust::Whole {
        let debris = below.into_keys().map(|number| number.to_string()).collect();
        bury(metadata, resource_kind(kind), debris).await?;
    }
    Ok(greatest)
}

/// Drops rows without a blob, and buries blobs and ingests without a row.
async fn reconcile_content(metadata: &Metadata, trust: Trust) -> Result<u64> {
    let mut below = HashSet::new();
    let mut after: Option<Digest> = None;
    loop {
        let page = metadata.content().list(&Filters::all(), after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.digest.clone());
        below.extend(page.into_iter().map(|info| info.digest));
    }
    let ingests = metadata.content().list_ingests(&Filters::all()).await?;
    let greatest =
        ingests.iter().filter_map(|status| sequence::of_name(&status.key)).max().unwrap_or_default();
    if trust == Trust::Quarantine {
        hold_recovered(metadata, below.into_iter().collect()).await?;
        return Ok(greatest);
    }
    let (mut owners, refs) = metadata
        .read(|connection| {
            let mut owners: HashMap<Digest, Vec<BlobRow>> = HashMap::new();
            row::scan(connection, &[], None, |row: BlobRow| {
                owners.entry(row.digest.clone()).or_default().push(row);
                Ok(ControlFlow::Continue(()))
            })?;
            let mut refs = HashSet::new();
            row::scan(connection, &[], None, |row: IngestRow| {
                refs.insert(row.backend_ref);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok((owners, refs))
        })
        .await?;
    if trust != Trust::Whole {
        return Ok(greatest);
    }
    let mut debris = Vec::new();
    for digest in below {
        if owners.remove(&digest).is_none() {
            debris.push(digest.to_string());
        }
    }
    for row in owners.into_values().flatten() {
        tracing::error!(namespace = %row.namespace, digest = %row.digest, "this blob is lost; its row is dropped");
        metadata.write(move |change| Ok(crate::content::remove(change, &row)?)).await?;
    }
    bury(metadata, BLOBS.to_owned(), debris).await?;
    let strays = ingests.into_iter().map(|status| status.key).filter(|key| !refs.contains(key)).collect();
    bury(metadata, INGESTS.to_owned(), strays).await?;
    Ok(greatest)
}

/// Leaves debris to the remover, which looks again.
async fn bury(metadata: &Metadata, kind: String, names: Vec<String>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    tracing::info!(kind, count = names.len(), "debris of a crash is removed");
    metadata
        .write(move |change| {
            change.deleted();
            Ok(names.iter().try_for_each(|name| change.bury(&kind, name))?)
        })
        .await
}

/// In quarantine blobs are held by a lease, so that they stay also after collections are on again.
async fn hold_recovered(metadata: &Metadata, blobs: BTreeSet<Digest>) -> Result<()> {
    let namespace: Namespace = "default".parse()?;
    metadata
        .write(move |change| {
            change.quiet();
            change.ensure_namespace(&namespace)?;
            let lease = Lease { id: RECOVERED.to_owned(), labels: Labels::new(), created_at: change.now };
            row::insert(change.connection, &within(&namespace, lease))?;
            for digest in &blobs {
                change.lease(&namespace, Some(RECOVERED), BLOBS, digest.as_str())?;
            }
            Ok(())
        })
        .await
}
