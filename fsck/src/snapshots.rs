//! Snapshots of namespaces against those of the snapshotters.

use corten_metadata::SnapshotRow;
use corten_snapshotter::{Inspector, Row};
use corten_types::{ErrorKind, Result};

use crate::{
    Finding, Kind, Thing, affected,
    catalogue::{SnapshotUse, TreeUse},
    check::Run,
    store::blocking,
};

/// In SQL, that a snapshot of a namespace in the snapshotter `?2` is worth a second look, under its lock: the snapshotter has
/// not got it, or one of them has another parent than the other.
const IS_DOUBTFUL: &str = "this.snapshotter = ?2 AND NOT EXISTS (
    SELECT 1 FROM tree WHERE tree.name = this.backend_key AND tree.snapshotter = this.snapshotter AND (
        (this.parent = '' AND tree.parent = '') OR (this.parent <> '' AND EXISTS (
            SELECT 1 FROM snapshot AS below WHERE below.key = this.parent AND below.snapshotter = this.snapshotter
            AND below.namespace = this.namespace AND below.backend_key = tree.parent))))";

/// In SQL, that no namespace has a snapshot of the snapshotter `?2`.
pub(crate) const IS_UNOWNED: &str = "this.snapshotter = ?2
    AND NOT EXISTS (SELECT 1 FROM snapshot WHERE backend_key = this.name AND snapshot.snapshotter = this.snapshotter)
    AND NOT EXISTS (SELECT 1 FROM snapshot WHERE pending = this.name AND snapshot.snapshotter = this.snapshotter)";

impl Run<'_, '_> {
    pub(crate) async fn check_snapshots(&mut self) -> Result<()> {
        let store = self.store;
        for snapshotter in store.snapshotters.keys() {
            self.look_for_doubtful_snapshots(snapshotter).await?;
            if self.scope.namespace.is_none() {
                self.look_for_unowned_snapshots(snapshotter).await?;
            }
        }
        Ok(())
    }

    async fn look_for_doubtful_snapshots(&mut self, snapshotter: &str) -> Result<()> {
        let mut after = 0;
        loop {
            let page: Vec<SnapshotUse> =
                self.catalogue.next_page(&mut after, IS_DOUBTFUL, &[&snapshotter])?;
            if page.is_empty() {
                return Ok(());
            }
            for row in page.into_iter().filter(|row| self.scope.covers(&row.namespace)) {
                self.look_at_snapshot(&row).await?;
            }
        }
    }

    async fn look_for_unowned_snapshots(&mut self, snapshotter: &str) -> Result<()> {
        let mut after = 0;
        loop {
            let page: Vec<TreeUse> = self.catalogue.next_page(&mut after, IS_UNOWNED, &[&snapshotter])?;
            if page.is_empty() {
                return Ok(());
            }
            for row in page {
                self.look_at_unowned(snapshotter, row).await?;
            }
        }
    }

    async fn look_at_snapshot(&mut self, seen: &SnapshotUse) -> Result<()> {
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
        let place = (row.namespace.as_str(), row.snapshotter.as_str(), row.key.as_str());
        let affects = affected::by_snapshot(&self.catalogue, place)?;
        let SnapshotRow { namespace, snapshotter, key, .. } = row;
        self.found(
            Finding::new(kind, Thing::Snapshot { namespace, snapshotter, key }, problem).affecting(affects),
        );
        Ok(())
    }

    async fn look_at_unowned(&mut self, snapshotter: &str, seen: TreeUse) -> Result<()> {
        let Some(inspector) = self.store.snapshotters.get(snapshotter).cloned() else { return Ok(()) };
        let metadata = &self.store.metadata;
        let TreeUse { id, name, .. } = seen;
        let hold = match parts(&name) {
            Some((namespace, key)) => Some(metadata.hold_snapshot(namespace, snapshotter, key).await),
            None => None,
        };
        let rows = metadata.snapshot_rows(snapshotter, &name).await?;
        let below = read_below(&inspector, name.clone()).await?;
        drop(hold);
        if rows.is_empty() && below.is_some() {
            let thing = Thing::Tree { snapshotter: snapshotter.to_owned(), id, name };
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
