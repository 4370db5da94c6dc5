//! Setting right at open what a crash left (`consistency.md` §3 and §5).

use std::collections::BTreeSet;

use corten_database::{Health, OpenReport as Opened, StoreIdFile};
use corten_types::{ErrorKind, Result};

use super::driver::{Driver, Placement};
use crate::{Kind, Metastore, Trees};

/// What was found at open, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Why nothing may be removed for want of a row, if that is so.
    pub quarantine: Option<String>,
    /// How many folders without a row were removed.
    pub debris_removed: usize,
    /// How many folders without a row there are in quarantine.
    pub debris_kept: usize,
    /// Snapshots whose files are gone, by name or key. Their rows are kept.
    pub missing: Vec<String>,
}

/// Removes debris, makes folders good that a power cut took, and says what is not there.
pub(super) fn set_right<D: Driver>(
    driver: &D,
    trees: &Trees,
    metastore: &Metastore,
    opened: &Opened,
) -> Result<OpenReport> {
    let listing = trees.listing()?;
    if let Some(last) = listing.ids.last() {
        metastore.skip_ids_to(*last);
    }
    let mut report =
        OpenReport { quarantine: doubts(trees, metastore, opened, &listing)?, ..OpenReport::default() };
    let rows = match metastore.all() {
        Err(error) if error.kind() == ErrorKind::DataLoss => {
            report.quarantine.get_or_insert(error.chain());
            Vec::new()
        }
        rows => rows?,
    };
    let mut orphans = listing.ids;
    for row in &rows {
        orphans.remove(&row.id);
    }
    for id in metastore.tombstones()? {
        orphans.remove(&id);
    }
    if report.quarantine.is_some() {
        report.debris_kept = orphans.len() + listing.unfinished.len();
    } else {
        report.debris_removed = orphans.len() + listing.unfinished.len();
        for id in orphans {
            trees.discard(id)?;
        }
        for path in listing.unfinished {
            trees.remove(&path)?;
        }
        let known: BTreeSet<u64> = rows.iter().map(|row| row.id).collect();
        trees.sweep_manifests(|id| known.contains(&id))?;
        if driver.removal() == super::Removal::AtOnce {
            bury(driver, trees, metastore)?;
        }
    }
    for row in rows {
        let is_whole = if row.info.kind == Kind::Committed {
            driver.is_there(trees, row.id)
        } else {
            let found = metastore.chained(&row.info.name)?;
            driver.mend(trees, &found.into_placement())?
        };
        if !is_whole {
            report.missing.push(row.info.name);
        }
    }
    Ok(report)
}

/// Removes the folders of removed snapshots, and then their tombstones.
pub(super) fn bury<D: Driver>(driver: &D, trees: &Trees, metastore: &Metastore) -> Result<()> {
    let mut gone = Vec::new();
    let mut result = Ok(());
    for id in metastore.tombstones()? {
        match discard(driver, trees, id) {
            Ok(()) => gone.push(id),
            Err(error) => result = Err(error),
        }
    }
    metastore.forget(gone)?;
    result
}

/// Removes the folder of a snapshot, and its manifest if that is elsewhere.
pub(super) fn discard<D: Driver>(driver: &D, trees: &Trees, id: u64) -> Result<()> {
    let manifest = driver.manifest(trees, id);
    if !manifest.starts_with(trees.folder(id)) {
        trees.remove_file(&manifest)?;
    }
    trees.discard(id)
}

/// Why the database cannot be trusted to know of every folder.
pub(crate) fn doubts(
    trees: &Trees,
    metastore: &Metastore,
    opened: &Opened,
    listing: &crate::trees::Listing,
) -> Result<Option<String>> {
    if let Health::Quarantine { reason, .. } = &opened.health {
        return Ok(Some(reason.clone()));
    }
    let id = metastore.store_id();
    let folder = trees.root();
    match id.compare(folder)? {
        StoreIdFile::Same => Ok(None),
        StoreIdFile::Absent if listing.ids.is_empty() => {
            id.write(trees.disk(), folder)?;
            Ok(None)
        }
        StoreIdFile::Absent => Ok(Some(format!(
            "there are snapshots in {}, but no file that says to which database they belong",
            folder.display()
        ))),
        StoreIdFile::Other(other) => {
            Ok(Some(format!("the snapshots in {} belong to database {other}, not to {id}", folder.display())))
        }
    }
}

impl crate::metastore::Chained {
    pub(super) fn into_placement(self) -> Placement {
        Placement {
            id: self.row.id,
            kind: self.row.info.kind,
            parents: self.parents,
            labels: self.row.info.labels,
        }
    }
}
