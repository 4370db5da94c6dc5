//! Commit: announced, done by the snapshotter, then made the truth (S05; `consistency.md` §3).

use corten_database::Refusal;
use corten_snapshotter::Snapshotter;
use corten_types::{Error, ErrorKind, Labels, Result};

use super::{Snapshots, find, find_parent, inherited, node_of, resource_kind, stored_anew, try_find};
use crate::{
    Metadata, MetadataEvent,
    change::{Change, Ended},
    mask, row,
    tables::{PendingCommit, SnapshotRow},
    view::View,
};

#[derive(Clone)]
struct Request {
    snapshots: Snapshots,
    key: String,
    pending: PendingCommit,
    /// A parent for a snapshot that had none.
    parent: Option<String>,
}

/// Commits a snapshot. It is finished even if the caller gives up waiting.
pub(super) async fn commit(
    snapshots: &Snapshots,
    name: &str,
    key: &str,
    mut labels: Labels,
    parent: Option<&str>,
) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid_argument("the name of a snapshot must not be empty"));
    }
    mask::finish_labels(&mut labels)?;
    let backend_name =
        format!("{}/{}/{name}", snapshots.view.namespace, snapshots.view.metadata.next_sequence().await?);
    let request = Request {
        snapshots: snapshots.clone(),
        key: key.to_owned(),
        pending: PendingCommit { name: name.to_owned(), backend_name, parent: String::new(), labels },
        parent: parent.filter(|parent| !parent.is_empty()).map(str::to_owned),
    };
    View::finish_on_one_thread(async move { request.run().await }).await?
}

impl Request {
    async fn run(self) -> Result<()> {
        let Snapshots { view, backend, .. } = &self.snapshots;
        let metadata = &view.metadata;
        let locks = metadata.snapshot_locks();
        // Both at once, in the order of their names, so that two commits never wait for each other.
        let mut keys = [self.snapshots.lock_key(&self.key), self.snapshots.lock_key(&self.pending.name)];
        keys.sort_unstable();
        let _first = locks.lock(&keys[0]).await;
        let _second = if keys[0] == keys[1] { None } else { Some(locks.lock(&keys[1]).await) };
        let (namespace, snapshotter, key) =
            (view.namespace.clone(), self.snapshots.name.clone(), self.key.clone());
        let left_over =
            metadata.read(move |connection| try_find(connection, &namespace, &snapshotter, &key)).await?;
        if let Some(left_over) = left_over.filter(|row| row.pending.is_some()) {
            settle(metadata, backend.as_ref(), left_over).await?;
        }
        let this = self.clone();
        let (row, below) = metadata.write(move |change| this.announce(change)).await?;
        let pending = row.pending.clone().ok_or_else(|| Error::internal("an announced commit is missing"))?;
        let labels = inherited(&pending.labels);
        if let Err(error) =
            backend.commit(&pending.backend_name, &row.backend_key, labels, below.as_deref()).await
        {
            // An answer may be lost where the deed was done; only the snapshotter knows.
            match backend.stat(&pending.backend_name).await {
                Ok(_) => {
                    tracing::warn!(snapshot = %self.key, %error, "the commit failed, and is there nevertheless")
                }
                Err(unknown) => {
                    if unknown.kind() == ErrorKind::NotFound {
                        self.withdraw(&row).await;
                    }
                    return Err(error);
                }
            }
        }
        let this = self.clone();
        // It has happened: a full disk must not leave it half told.
        metadata.write_freeing(move |change| this.conclude(change, &row)).await
    }

    /// Checks, and writes down what the snapshot becomes, so that a crash after the snapshotter's commit loses nothing.
    fn announce(&self, change: &mut Change<'_>) -> Ended<(SnapshotRow, Option<String>)> {
        let Snapshots { view, name, .. } = &self.snapshots;
        let namespace = &view.namespace;
        let wanted = &self.pending.name;
        if try_find(change.connection, namespace, name, wanted)?.is_some() {
            change.lease(namespace, view.lease.as_deref(), &self.snapshots.kind(), wanted)?;
            return Err(Refusal::Commit(Error::already_exists(format!("snapshot {wanted:?}"))));
        }
        let mut row = find(change.connection, namespace, name, &self.key)?;
        if let Some(lease) = &view.lease {
            change.require_lease(namespace, lease)?;
        }
        let mut pending = self.pending.clone();
        pending.parent.clone_from(&row.parent);
        let mut below = None;
        if let Some(parent) = &self.parent {
            if !row.parent.is_empty() && row.parent != *parent {
                let message = format!("snapshot {:?} has a parent; it cannot be given another", self.key);
                return Err(Error::invalid_argument(message).into());
            }
            let found = find_parent(change.connection, namespace, name, parent)?;
            below = found.filter(|_| row.parent.is_empty()).map(|parent| parent.backend_key);
            pending.parent.clone_from(parent);
        }
        row.pending = Some(pending);
        row::replace(change.connection, &row)?;
        change.touch(|| node_of(&row));
        change.touch(|| {
            let parent = row.pending.as_ref().map_or("", |pending| &pending.parent);
            crate::node::Node::snapshot(&namespace.as_str().into(), name, parent)
        });
        Ok((row, below))
    }

    /// The snapshotter refused. Should this fail, the next start finds that nothing was committed.
    async fn withdraw(&self, row: &SnapshotRow) {
        let row = row.clone();
        let withdrawn = self.snapshots.view.metadata.write_freeing(move |change| {
            let keys = [row.namespace.as_str(), row.snapshotter.as_str(), row.key.as_str()];
            if let Some(mut stored) = row::get::<SnapshotRow>(change.connection, &keys)? {
                stored.pending = None;
                row::replace(change.connection, &stored)?;
            }
            Ok(())
        });
        if let Err(error) = withdrawn.await {
            tracing::warn!(snapshot = %self.key, %error, "a commit that failed stays announced");
        }
    }

    /// The final transaction: the row and the parent are looked up again.
    fn conclude(&self, change: &mut Change<'_>, announced: &SnapshotRow) -> Ended<()> {
        let Snapshots { view, name, .. } = &self.snapshots;
        let namespace = &view.namespace;
        let stored = try_find(change.connection, namespace, name, &self.key)?;
        let alive = stored.is_some_and(|stored| stored.backend_key == announced.backend_key);
        let pending = announced.pending.as_ref().unwrap_or(&self.pending);
        let standing = find_parent(change.connection, namespace, name, &pending.parent);
        let gone = match standing {
            Err(error) if error.kind() == ErrorKind::NotFound => Some(error),
            Err(error) => return Err(error.into()),
            Ok(_) if !alive => {
                Some(Error::not_found(format!("snapshot {:?} in namespace {namespace}", self.key)))
            }
            Ok(_) => None,
        };
        if let Some(error) = gone {
            // It was collected meanwhile; what the snapshotter committed goes the same way.
            change.bury(&resource_kind(name), &pending.backend_name)?;
            change.deleted();
            return Err(Refusal::Commit(error));
        }
        let row = carry_through(change, announced, pending)?;
        let kind = self.snapshots.kind();
        change.release(namespace, view.lease.as_deref(), &kind, &self.key)?;
        match change.lease(namespace, view.lease.as_deref(), &kind, &row.key) {
            // The lease went meanwhile. The snapshotter cannot go back, so the snapshot stays as it is.
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Refusal::Commit(error)),
            leased => leased?,
        }
        let event = MetadataEvent::SnapshotCommit {
            key: self.key.clone(),
            name: row.key,
            snapshotter: name.to_string(),
        };
        change.publish(namespace, event);
        Ok(())
    }
}

/// What becomes of a commit that was announced and not concluded: only the snapshotter knows. Says whether it was
/// carried through.
pub(crate) async fn settle(metadata: &Metadata, backend: &dyn Snapshotter, row: SnapshotRow) -> Result<bool> {
    let Some(pending) = row.pending.clone() else { return Ok(false) };
    let committed = match backend.stat(&pending.backend_name).await {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    metadata
        .write_freeing(move |change| {
            if committed {
                carry_through(change, &row, &pending)?;
            } else {
                row::replace(change.connection, &SnapshotRow { pending: None, ..row.clone() })?;
            }
            Ok(committed)
        })
        .await
}

/// The committed row in place of the active one: for commits, and after a crash.
fn carry_through(change: &Change<'_>, active: &SnapshotRow, pending: &PendingCommit) -> Result<SnapshotRow> {
    row::delete::<SnapshotRow>(change.connection, &[&active.namespace, &active.snapshotter, &active.key])?;
    change.index_labels(&node_of(active), &active.labels, &Labels::new())?;
    let row = SnapshotRow {
        key: pending.name.clone(),
        backend_key: pending.backend_name.clone(),
        parent: pending.parent.clone(),
        labels: pending.labels.clone(),
        created_at: change.now,
        updated_at: change.now,
        pending: None,
        ..active.clone()
    };
    row::replace(change.connection, &row)?;
    stored_anew(change, &Labels::new(), &row)?;
    Ok(row)
}
