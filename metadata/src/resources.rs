//! Things that others look after and that live as long as something refers to them: activations of mounts (G07, M07).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use corten_database::{Refusal, rusqlite::Connection};
use corten_filter::Filters;
use corten_types::{Error, Labels, Namespace, Result};

use crate::{
    ResourceInfo,
    change::{Change, Ended},
    node::Node,
    row,
    tables::{In, ResourceRow, within},
    view::View,
};

/// What looks after all things of one kind, for example `mount`. The store numbers them, says which of them are needed,
/// and tells when one is not.
#[async_trait]
pub trait Collectible: Send + Sync {
    /// Everything that is there, whatever is known about it. Asked once, at open.
    ///
    /// # Errors
    /// If it cannot be told. The store then does not open.
    async fn found(&self) -> Result<Vec<Found>>;

    /// Ends the thing with this number. Called after its row is gone; nobody gets that number again.
    ///
    /// # Errors
    /// `NotFound` if there is none. After any other error it is asked again at the next collection.
    async fn remove(&self, number: u64) -> Result<()>;
}

/// Something that is there when the store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// Whether all of it is there. What is not loses its row, and is removed.
    pub whole: bool,
}

/// A thing that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number: no other thing ever had it.
    pub number: u64,
    /// The number of a thing of that name that was never finished. It is buried: removing it now is only quicker.
    pub stale: Option<u64>,
}

/// The things of one kind in one namespace.
///
/// A thing is begun, made, and finished. One that was begun stays until it is finished or abandoned; what is left of it
/// after a crash is removed at the next open. One that is finished lives as long as a lease, a back reference or a label
/// `containerd.io/gc.ref.<kind>` names it (G13, G14).
#[derive(Clone, Debug)]
pub struct Resources {
    view: View,
    kind: Arc<str>,
}

impl Resources {
    pub(crate) fn new(view: View, kind: &str) -> Result<Self> {
        if !view.metadata.inner.collectibles.contains_key(kind) {
            return Err(Error::invalid_argument(format!("nothing looks after things of the kind {kind:?}")));
        }
        Ok(Self { view, kind: kind.into() })
    }

    /// Begins a thing called `name`, kept by the lease of the view. Only one caller at a time may make a thing of a name:
    /// what was begun before is taken for the leftover of a failure.
    ///
    /// # Errors
    /// - `AlreadyExists`: there is one that is finished. The lease keeps it from now on.
    /// - `NotFound`: the lease does not exist (X06).
    pub async fn begin(&self, name: &str, mut labels: Labels) -> Result<Begun> {
        labels.retain(|_, value| !value.is_empty());
        let number = self.view.metadata.next_sequence().await?;
        let (this, name) = (self.clone(), name.to_owned());
        self.view
            .metadata
            .write(move |change| -> Ended<Begun> {
                let View { namespace, lease, .. } = &this.view;
                change.ensure_namespace(namespace)?;
                let found = find(change.connection, namespace, &this.kind, &name)?;
                if found.as_ref().is_some_and(|row| row.info.data.is_some()) {
                    change.lease(namespace, lease.as_deref(), &resource_kind(&this.kind), &name)?;
                    let error = Error::already_exists(format!("{} {name:?}", this.kind));
                    return Err(Refusal::Commit(error));
                }
                if let Some(stale) = &found {
                    remove(change, namespace, stale)?;
                }
                let info = ResourceInfo {
                    name: name.clone(),
                    number,
                    labels: labels.clone(),
                    data: None,
                    created_at: change.now,
                };
                let row = ResourceRow { kind: this.kind.to_string(), info };
                change.index_labels(&node_of(namespace, &row), &Labels::new(), &labels)?;
                change.touch(|| node_of(namespace, &row));
                row::insert(change.connection, &within(namespace, row))?;
                change.lease(namespace, lease.as_deref(), &resource_kind(&this.kind), &name)?;
                Ok(Begun { number, stale: found.map(|row| row.info.number) })
            })
            .await
    }

    /// Says that the thing `name` is there, and what is to be remembered of it.
    ///
    /// # Errors
    /// `NotFound`: the row was removed meanwhile, with its namespace; whatever was made must be undone.
    pub async fn finish(&self, name: &str, number: u64, data: Bytes) -> Result<()> {
        let (this, name) = (self.clone(), name.to_owned());
        self.view
            .metadata
            .write(move |change| {
                let namespace = &this.view.namespace;
                let mut row = this.row(change.connection, &name)?;
                if row.info.number != number {
                    return Err(missing(&this.kind, &name).into());
                }
                row.info.data = Some(data.clone());
                change.touch(|| node_of(namespace, &row));
                row::replace(change.connection, &within(namespace, row))?;
                Ok(())
            })
            .await
    }

    /// Takes back what was begun. What was made of it is removed by the next collection, if not before.
    ///
    /// # Errors
    /// Those of the database; it is then taken for a leftover.
    pub async fn abandon(&self, name: &str, number: u64) -> Result<()> {
        let (this, name) = (self.clone(), name.to_owned());
        self.view
            .metadata
            .write_freeing(move |change| {
                let namespace = &this.view.namespace;
                let found = find(change.connection, namespace, &this.kind, &name)?;
                if let Some(row) = found.filter(|row| row.info.number == number) {
                    remove(change, namespace, &row)?;
                }
                Ok(())
            })
            .await
    }

    /// Removes the row and says which thing is not needed any more. The next collection removes that, unless the caller
    /// does.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn remove(&self, name: &str) -> Result<u64> {
        let (this, name) = (self.clone(), name.to_owned());
        self.view
            .metadata
            .write_freeing(move |change| {
                let row = this.row(change.connection, &name)?;
                remove(change, &this.view.namespace, &row)?;
                Ok(row.info.number)
            })
            .await
    }

    /// The thing called `name`.
    ///
    /// # Errors
    /// `NotFound` if there is none, or only one that is not finished.
    pub async fn get(&self, name: &str) -> Result<ResourceInfo> {
        let (this, name) = (self.clone(), name.to_owned());
        let row = self.view.metadata.read(move |connection| this.row(connection, &name)).await?;
        if row.info.data.is_none() {
            return Err(missing(&self.kind, &row.info.name));
        }
        Ok(row.info)
    }

    /// Up to `limit` that are finished and match, in the order of their names, beginning after `after`.
    ///
    /// # Errors
    /// Only if the database cannot be read.
    pub async fn list(
        &self,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ResourceInfo>> {
        let (this, filters, after) = (self.clone(), filters.clone(), after.map(str::to_owned));
        let rows = self.view.metadata.read(move |connection| {
            let finished =
                |row: &In<ResourceRow>| row.record.info.data.is_some() && filters.matches(&row.record.info);
            let prefix = [this.view.namespace.as_str(), &this.kind];
            row::list(connection, &prefix, after.as_deref(), limit, finished)
        });
        Ok(rows.await?.into_iter().map(|row| row.record.info).collect())
    }

    fn row(&self, connection: &Connection, name: &str) -> Result<ResourceRow> {
        find(connection, &self.view.namespace, &self.kind, name)?.ok_or_else(|| missing(&self.kind, name))
    }
}

fn missing(kind: &str, name: &str) -> Error {
    Error::not_found(format!("{kind} {name:?}"))
}

fn find(
    connection: &Connection,
    namespace: &Namespace,
    kind: &str,
    name: &str,
) -> Result<Option<ResourceRow>> {
    let found: Option<In<ResourceRow>> = row::get(connection, &[namespace.as_str(), kind, name])?;
    Ok(found.map(|row| row.record))
}

/// The kind of a lease's resource and of a tombstone.
pub(crate) fn resource_kind(kind: &str) -> String {
    format!("{RESOURCES}{kind}")
}

/// What [`resource_kind`] begins with.
pub(crate) const RESOURCES: &str = "resources/";

fn node_of(namespace: &Namespace, row: &ResourceRow) -> Node {
    Node::resource(&namespace.as_str().into(), &row.kind, &row.info.name)
}

/// Whether a row has the thing with this number.
pub(crate) fn is_owned(connection: &Connection, kind: &str, number: u64) -> Result<bool> {
    let text = "SELECT 1 FROM resources WHERE kind = ?1 AND number = ?2";
    row::exists(connection, text, (kind, i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Removes the row with all that names it for a lease, and buries the thing: for callers, at open, and for the sweep.
pub(crate) fn remove(change: &mut Change<'_>, namespace: &Namespace, row: &ResourceRow) -> Result<()> {
    let ResourceRow { kind, info } = row;
    row::delete::<In<ResourceRow>>(change.connection, &[namespace.as_str(), kind, &info.name])?;
    change.index_labels(&node_of(namespace, row), &info.labels, &Labels::new())?;
    // A lease that went on naming it would keep the next thing of that name.
    row::execute(
        change.connection,
        "DELETE FROM lease_resources WHERE namespace = ?1 AND kind = ?2 AND id = ?3",
        [namespace.as_str(), &resource_kind(kind), &info.name],
    )?;
    change.bury(&resource_kind(kind), &info.number.to_string())?;
    change.deleted();
    Ok(())
}

/// Removes all rows of a namespace that goes.
pub(crate) fn remove_all(change: &mut Change<'_>, namespace: &Namespace) -> Result<()> {
    let rows: Vec<In<ResourceRow>> =
        row::list(change.connection, &[namespace.as_str()], None, usize::MAX, |_| true)?;
    rows.iter().try_for_each(|row| remove(change, namespace, &row.record))
}
