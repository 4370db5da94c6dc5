//! Snapshots of namespaces against those of the snapshotters.

use std::collections::{BTreeMap, BTreeSet};

use corten_metadata::SnapshotRow;
use corten_snapshotter::{Inspector, Row};
use corten_types::{ErrorKind, Result};

use crate::{Finding, Kind, Thing, check::Run, store::blocking};

impl Run<'_, '_> {
    pub(crate) async fn check_snapshots(&mut self) -> Result<()> {
        let catalogue = self.catalogue;
        for (snapshotter, rows) in &catalogue.trees {
            let parents: BTreeMap<&str, &str> =
                rows.values().map(|row| (row.info.name.as_str(), row.info.parent.as_str())).collect();
            let mut owned = BTreeSet::new();
            for row in catalogue.snapshots.values().filter(|row| row.snapshotter == *snapshotter) {
                owned.insert(row.backend_key.as_str());
                owned.extend(row.pending.as_ref().map(|pending| pending.backend_name.as_str()));
                if self.scope.covers(&row.namespace) && self.is_doubtful(row, &parents) {
                    self.look_at_snapshot(row).await?;
                }
            }
            for row in rows.values().filter(|row| !owned.contains(row.info.name.as_str())) {
                if self.scope.namespace.is_none() {
                    self.look_at_unowned(snapshotter, row).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether it is worth a second look, under its lock.
    fn is_doubtful(&self, row: &SnapshotRow, parents: &BTreeMap<&str, &str>) -> bool {
        let Some(parent) = parents.get(row.backend_key.as_str()) else { return true };
        if row.parent.is_empty() {
            return !parent.is_empty();
        }
        let key = (row.namespace.clone(), row.snapshotter.clone(), row.parent.clone());
        self.catalogue.snapshots.get(&key).is_none_or(|wanted| wanted.backend_key != *parent)
    }

    async fn look_at_snapshot(&mut self, seen: &SnapshotRow) -> Result<()> {
        let Some(inspector) = self.store.snapshotters.get(&seen.snapshotter).cloned() else { return Ok(()) };
        let metadata = &self.store.metadata;
        let (namespace, snapshotter, key) = (&seen.namespace, &seen.snapshotter, &seen.key);
        let hold = metadata.hold_snapshot(namespace, snapshotter, key).await;
        let Some(row) = metadata.snapshot_row(namespace, snapshotter, key).await? else { return Ok(()) };
        if row.pending.is_some() {
            // A commit under way; if it was a crash, the next start settles it.
            return Ok(());
        }
        let below = read_below(&inspector, row.backend_key.clone()).await?;
        let parent = if row.parent.is_empty() {
            None
        } else {
            Some(metadata.snapshot_row(namespace, snapshotter, &row.parent).await?)
        };
        drop(hold);
        let (kind, problem) = match (below, parent) {
            (None, _) => {
                let problem = format!("snapshotter {snapshotter} does not have {:?}", row.backend_key);
                (Kind::SnapshotMissing, problem)
            }
            (Some(_), Some(None)) => {
                (Kind::SnapshotParent, format!("its parent {:?} has no row", row.parent))
            }
            (Some(below), Some(Some(parent))) if below.info.parent != parent.backend_key => {
                let (wanted, found) = (parent.backend_key, below.info.parent);
                (Kind::SnapshotParent, format!("it stands on {found:?} and should stand on {wanted:?}"))
            }
            (Some(below), None) if !below.info.parent.is_empty() => {
                let found = below.info.parent;
                (Kind::SnapshotParent, format!("it stands on {found:?} and should stand on nothing"))
            }
            _ => return Ok(()),
        };
        let affects = self.referrers().of_snapshot(&row.namespace, &row.snapshotter, &row.key);
        let SnapshotRow { namespace, snapshotter, key, .. } = row;
        self.found(
            Finding::new(kind, Thing::Snapshot { namespace, snapshotter, key }, problem).affecting(affects),
        );
        Ok(())
    }

    async fn look_at_unowned(&mut self, snapshotter: &str, seen: &Row) -> Result<()> {
        let Some(inspector) = self.store.snapshotters.get(snapshotter).cloned() else { return Ok(()) };
        let metadata = &self.store.metadata;
        let name = seen.info.name.clone();
        let hold = match parts(&name) {
            Some((namespace, key)) => Some(metadata.hold_snapshot(namespace, snapshotter, key).await),
            None => None,
        };
        let rows = metadata.snapshot_rows(snapshotter, &name).await?;
        let below = read_below(&inspector, name.clone()).await?;
        drop(hold);
        if rows.is_empty() && below.is_some() {
            let thing = Thing::Tree { snapshotter: snapshotter.to_owned(), id: seen.id, name };
            self.found(Finding::new(Kind::SnapshotUnknown, thing, "no namespace has it"));
        }
        Ok(())
    }
}

/// Namespace and key of a name in a snapshotter, `<namespace>/<number>/<key>`.
pub(crate) fn parts(name: &str) -> Option<(&str, &str)> {
    let mut parts = name.splitn(3, '/');
    let (namespace, number, key) = (parts.next()?, parts.next()?, parts.next()?);
    number.parse::<u64>().ok()?;
    Some((namespace, key))
}

/// A damaged row counts as none.
async fn read_below(inspector: &Inspector, name: String) -> Result<Option<Row>> {
    let inspector = inspector.clone();
    blocking(move || match inspector.row(&name) {
        Err(error) if error.kind() == ErrorKind::DataLoss => Ok(None),
        row => row,
    })
    .await
}
