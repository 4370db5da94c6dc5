//! Prepare and View: the snapshotter first, then the row (S02, S03, S12).

use std::time::SystemTime;

use corten_database::Refusal;
use corten_filter::Filters;
use corten_snapshotter::{Kind, SnapshotInfo};
use corten_types::{Error, ErrorKind, Labels, Mount, Result};

use super::{Snapshots, TARGET, find_parent, inherited, stored_anew, try_find};
use crate::{MetadataEvent, change::Change, change::Ended, mask, row, tables::SnapshotRow, view::View};

/// Whether the new snapshot can be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

/// How many of the snapshotter's snapshots are looked at at once when a remote one is searched.
const PAGE_SNAPSHOTS: usize = 256;

/// What is asked for.
#[derive(Clone)]
struct Request {
    snapshots: Snapshots,
    key: String,
    parent: String,
    labels: Labels,
    access: Access,
}

/// Makes a snapshot. It is finished even if the caller gives up waiting.
pub(super) async fn create(
    snapshots: &Snapshots,
    key: &str,
    parent: &str,
    mut labels: Labels,
    access: Access,
) -> Result<Vec<Mount>> {
    if key.is_empty() {
        return Err(Error::invalid_argument("the key of a snapshot must not be empty"));
    }
    mask::finish_labels(&mut labels)?;
    let request = Request {
        snapshots: snapshots.clone(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels,
        access,
    };
    View::finish_on_one_thread(async move { request.run().await }).await?
}

impl Request {
    async fn run(self) -> Result<Vec<Mount>> {
        let Snapshots { view, backend, name } = &self.snapshots;
        let metadata = &view.metadata;
        let _guard = metadata.snapshot_locks().lock(&self.snapshots.lock_key(&self.key)).await;
        let below = self.look().await?.map(|row| row.backend_key).unwrap_or_default();
        let backend_key = format!("{}/{}/{}", view.namespace, metadata.next_sequence().await?, self.key);
        let labels = inherited(&self.labels);
        let made = match self.access {
            Access::Write => backend.prepare(&backend_key, &below, labels).await,
            Access::Read => backend.view(&backend_key, &below, labels).await,
        };
        let mounts = match made {
            Ok(mounts) => mounts,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.labels.contains_key(TARGET) => {
                return self.adopt(&below).await;
            }
            // Names below are never given twice: whoever hears that this exists would take it for the key.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let message = format!("snapshotter {name} says that what is new to it exists");
                return Err(Error::new(ErrorKind::Unknown, message).with_source(error));
            }
            Err(error) => return Err(error),
        };
        let written = {
            let (this, backend_key, below) = (self.clone(), backend_key.clone(), below.clone());
            metadata.write(move |change| this.write_row(change, &backend_key, &below)).await
        };
        if let Err(error) = written {
            // Without its row it is debris; if it cannot go now, the next start removes it.
            if let Err(error) = backend.remove(&backend_key).await {
                tracing::warn!(snapshot = %backend_key, %error, "a snapshot without a row stays for now");
            }
            return Err(error);
        }
        Ok(mounts)
    }

    /// Looks whether the key or the target (S12) is taken, and for the parent. What is taken is leased all the same.
    async fn look(&self) -> Result<Option<SnapshotRow>> {
        let this = self.clone();
        let found = move |connection: &_| {
            let Snapshots { view, name, .. } = &this.snapshots;
            for key in this.wanted_keys() {
                if try_find(connection, &view.namespace, name, key)?.is_some() {
                    return Ok(Err(key.to_owned()));
                }
            }
            find_parent(connection, &view.namespace, name, &this.parent).map(Ok)
        };
        match self.snapshots.view.metadata.read(found).await? {
            Ok(parent) => Ok(parent),
            Err(taken) => Err(self.lease_taken(taken).await),
        }
    }

    fn wanted_keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key.as_str()).chain(self.labels.get(TARGET).map(String::as_str))
    }

    async fn lease_taken(&self, taken: String) -> Error {
        let this = self.clone();
        let leased = self.snapshots.view.metadata.write(move |change| -> Ended<()> {
            let view = &this.snapshots.view;
            change.lease(&view.namespace, view.lease.as_deref(), &this.snapshots.kind(), &taken)?;
            Err(Refusal::Commit(Error::already_exists(format!("snapshot {taken:?}"))))
        });
        leased.await.err().unwrap_or_else(|| Error::internal("a refusal became a success"))
    }

    /// The final transaction: key and parent are looked up again, because both may have changed meanwhile.
    fn write_row(&self, change: &mut Change<'_>, backend_key: &str, below: &str) -> Ended<()> {
        let Snapshots { view, name, .. } = &self.snapshots;
        let parent = find_parent(change.connection, &view.namespace, name, &self.parent)?;
        if parent.as_ref().is_some_and(|parent| parent.backend_key != below) {
            let message = format!("parent snapshot {:?} was replaced by another meanwhile", self.parent);
            return Err(Error::not_found(message).into());
        }
        self.insert(change, (&self.key, backend_key), &self.labels, (change.now, change.now))?;
        if self.access == Access::Write {
            let event = MetadataEvent::SnapshotPrepare {
                key: self.key.clone(),
                parent: self.parent.clone(),
                snapshotter: name.to_string(),
            };
            change.publish(&view.namespace, event);
        }
        Ok(())
    }

    /// Stores the row for a key, and a name below, that was created and changed at these times.
    fn insert(
        &self,
        change: &Change<'_>,
        (key, backend_key): (&str, &str),
        labels: &Labels,
        (created_at, updated_at): (SystemTime, SystemTime),
    ) -> Ended<()> {
        let Snapshots { view, name, .. } = &self.snapshots;
        change.ensure_namespace(&view.namespace)?;
        change.lease(&view.namespace, view.lease.as_deref(), &self.snapshots.kind(), key)?;
        let row = SnapshotRow {
            namespace: view.namespace.as_str().to_owned(),
            snapshotter: name.to_string(),
            key: key.to_owned(),
            backend_key: backend_key.to_owned(),
            parent: self.parent.clone(),
            labels: labels.clone(),
            created_at,
            updated_at,
            pending: None,
        };
        if !row::insert(change.connection, &row)? {
            return Err(Refusal::Commit(Error::already_exists(format!("snapshot {key:?}"))));
        }
        stored_anew(change, &Labels::new(), &row)?;
        Ok(())
    }

    /// S12: the snapshotter has the target already. It becomes a row, and the caller hears that it exists.
    async fn adopt(&self, below: &str) -> Result<Vec<Mount>> {
        let target = self.labels.get(TARGET).cloned().unwrap_or_default();
        let info = self.remote_snapshot(&target, below).await?;
        let mut labels = info.labels;
        labels.extend(self.labels.clone());
        let (this, backend_key, times) = (self.clone(), info.name, (info.created_at, info.updated_at));
        let below = below.to_owned();
        self.snapshots
            .view
            .metadata
            .write(move |change| {
                let Snapshots { view, name, .. } = &this.snapshots;
                let parent = find_parent(change.connection, &view.namespace, name, &this.parent)?;
                if parent.as_ref().is_some_and(|parent| parent.backend_key != below) {
                    let message =
                        format!("parent {:?} is not that of target snapshot {target:?}", this.parent);
                    return Err(Error::invalid_argument(message).into());
                }
                this.insert(change, (&target, &backend_key), &labels, times)?;
                let message = format!("target snapshot {target:?} from snapshotter");
                Err(Refusal::Commit(Error::already_exists(message)))
            })
            .await
    }

    async fn remote_snapshot(&self, target: &str, below: &str) -> Result<SnapshotInfo> {
        let filters = Filters::parse(&[format!("labels.{TARGET:?}=={target:?},kind==committed")])?;
        let mut after: Option<String> = None;
        loop {
            let page = self.snapshots.backend.list(&filters, after.as_deref(), PAGE_SNAPSHOTS).await?;
            let Some(last) = page.last() else {
                return Err(Error::not_found(format!("target snapshot {target:?} in snapshotter")));
            };
            after = Some(last.name.clone());
            // A snapshotter in another process may not filter.
            let fits = |info: &SnapshotInfo| {
                info.kind == Kind::Committed
                    && info.labels.get(TARGET).is_some_and(|label| label == target)
                    && info.parent == below
            };
            if let Some(info) = page.into_iter().find(fits) {
                return Ok(info);
            }
        }
    }
}
