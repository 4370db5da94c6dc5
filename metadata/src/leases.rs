//! Leases of one namespace (rows L01-L08).

use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_types::{Digest, Error, Labels, Namespace, Result};
use rand::Rng;

use crate::{
    Lease, Metadata, Resource,
    change::Change,
    node::{Kind, Node},
    row,
    tables::{In, within},
    view::View,
};

/// The leases of one namespace.
#[derive(Clone, Debug)]
pub struct Leases(pub(crate) View);

impl Leases {
    /// Creates a lease; without an id it gets a random one (L01).
    ///
    /// # Errors
    /// `AlreadyExists` if the id is taken.
    pub async fn create(&self, id: Option<&str>, labels: Labels) -> Result<Lease> {
        let id = id.filter(|id| !id.is_empty()).map_or_else(random_id, str::to_owned);
        let (namespace, mut labels) = (self.0.namespace.clone(), labels);
        labels.retain(|_, value| !value.is_empty());
        self.0
            .metadata
            .write(move |change| {
                let lease = Lease { id: id.clone(), labels: labels.clone(), created_at: change.now };
                change.ensure_namespace(&namespace)?;
                if !row::insert(change.connection, &within(&namespace, lease.clone()))? {
                    return Err(Error::already_exists(format!("lease {id:?}")).into());
                }
                // What is left of a large one that had this id must not come back with it.
                row::execute(
                    change.connection,
                    "DELETE FROM lease_resources WHERE namespace = ?1 AND lease = ?2",
                    [namespace.as_str(), &id],
                )?;
                change.touch(|| Node::new(Kind::Lease, &namespace.as_str().into(), id.as_str()));
                Ok(lease)
            })
            .await
    }

    /// Deletes it (L02). For `sync`, call [`Metadata::collect`](crate::Metadata::collect) afterwards.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let (namespace, id) = (self.0.namespace.clone(), id.to_owned());
        self.0
            .metadata
            .write_freeing(move |change| {
                if !remove(change, &namespace, &id)? {
                    return Err(Error::not_found(format!("lease {id:?}")).into());
                }
                change.deleted();
                Ok(())
            })
            .await
    }

    /// Up to `limit` that match, in the order of their ids, beginning after `after` (L03).
    pub async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<Lease>> {
        let (namespace, filters, after) =
            (self.0.namespace.clone(), filters.clone(), after.map(str::to_owned));
        self.0
            .metadata
            .read(move |connection| {
                let matches = |row: &In<Lease>| filters.matches(&row.record);
                row::list(connection, &[namespace.as_str()], after.as_deref(), limit, matches)
            })
            .await
            .map(|rows| rows.into_iter().map(|row| row.record).collect())
    }

    /// Makes the lease keep `resource`, which need not exist (L04).
    ///
    /// # Errors
    /// - `NotFound`: no such lease.
    /// - `Unimplemented`: a kind that cannot be leased.
    /// - `InvalidArgument`: a malformed digest or kind.
    pub async fn add_resource(&self, id: &str, resource: &Resource) -> Result<()> {
        let (namespace, id, resource) = (self.0.namespace.clone(), id.to_owned(), checked(resource)?);
        self.0
            .metadata
            .write(move |change| Ok(change.lease(&namespace, Some(&id), &resource.kind, &resource.id)?))
            .await
    }

    /// Makes the lease let go of `resource`; no error if it did not keep it (L05).
    ///
    /// # Errors
    /// As [`add_resource`](Self::add_resource).
    pub async fn delete_resource(&self, id: &str, resource: &Resource) -> Result<()> {
        let (namespace, id, resource) = (self.0.namespace.clone(), id.to_owned(), checked(resource)?);
        self.0
            .metadata
            .write(move |change| {
                change.require_lease(&namespace, &id)?;
                change.release(&namespace, Some(&id), &resource.kind, &resource.id)?;
                change.deleted();
                Ok(())
            })
            .await
    }

    /// What the lease keeps: content, images, ingests, snapshots (L06). Not what joined it by itself (L08).
    ///
    /// # Errors
    /// `NotFound`: no such lease.
    pub async fn list_resources(&self, id: &str) -> Result<Vec<Resource>> {
        let (namespace, id) = (self.0.namespace.clone(), id.to_owned());
        self.0
            .metadata
            .read(move |connection| {
                if row::get::<In<Lease>>(connection, &[namespace.as_str(), &id])?.is_none() {
                    return Err(Error::not_found(format!("lease {id:?}")));
                }
                let mut resources = Vec::new();
                row::query(
                    connection,
                    "SELECT kind, id FROM lease_resources WHERE namespace = ?1 AND lease = ?2
                       AND kind NOT LIKE 'resources/%' ORDER BY kind, id",
                    [namespace.as_str(), &id],
                    |row| {
                        resources.push(Resource { kind: row.get(0)?, id: row.get(1)? });
                        Ok(())
                    },
                )?;
                Ok(resources)
            })
            .await
    }
}

/// How many resources of a lease are removed in one transaction: each takes some ten microseconds, and others wait meanwhile.
const RESOURCES_TOGETHER: usize = 50;

/// Removes the row and what the lease names: for callers, and for the sweep (G21).
///
/// What a large lease names beyond [`RESOURCES_TOGETHER`] stays for [`remove_leftovers`]: without the row it keeps nothing.
pub(crate) fn remove(change: &Change<'_>, namespace: &Namespace, id: &str) -> Result<bool> {
    remove_resources(change.connection, namespace.as_str(), id)?;
    row::delete::<In<Lease>>(change.connection, &[namespace.as_str(), id])
}

/// Removes some of what a lease names; says whether there may be more.
fn remove_resources(connection: &Connection, namespace: &str, id: &str) -> Result<bool> {
    let removed = row::execute(
        connection,
        "DELETE FROM lease_resources WHERE namespace = ?1 AND lease = ?2 AND (kind, id) IN
           (SELECT kind, id FROM lease_resources WHERE namespace = ?1 AND lease = ?2 LIMIT ?3)",
        (namespace, id, RESOURCES_TOGETHER),
    )?;
    Ok(removed == RESOURCES_TOGETHER)
}

/// Removes, in short transactions, what leases name that are gone.
pub(crate) async fn remove_leftovers(metadata: &Metadata) -> Result<()> {
    for (namespace, id) in metadata.read(leftovers).await? {
        let mut more = true;
        while more {
            let (namespace, id) = (namespace.clone(), id.clone());
            more = metadata
                .write_freeing(move |change| {
                    change.quiet();
                    // It may have been created again, and then what it names is its own.
                    let text = "SELECT 1 FROM leases WHERE namespace = ?1 AND id = ?2";
                    if row::exists(change.connection, text, [&namespace, &id])? {
                        return Ok(false);
                    }
                    Ok(remove_resources(change.connection, &namespace, &id)?)
                })
                .await?;
        }
    }
    Ok(())
}

/// The namespaces and ids of leases that are gone and of which resources are left. It looks at one row of each lease.
fn leftovers(connection: &Connection) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut last = (String::new(), String::new());
    loop {
        let mut next = None;
        let text = "SELECT namespace, lease,
               EXISTS (SELECT 1 FROM leases AS l WHERE l.namespace = r.namespace AND l.id = r.lease)
             FROM lease_resources AS r WHERE (namespace, lease) > (?1, ?2) ORDER BY namespace, lease LIMIT 1";
        row::query(connection, text, (&last.0, &last.1), |row| {
            next = Some(((row.get(0)?, row.get(1)?), row.get::<_, bool>(2)?));
            Ok(())
        })?;
        let Some((lease, is_alive)) = next else { return Ok(found) };
        last.clone_from(&lease);
        if !is_alive {
            found.push(lease);
        }
    }
}

/// L04. The kinds sort as they are to be listed (L06).
fn checked(resource: &Resource) -> Result<Resource> {
    let Resource { kind, id } = resource;
    let parts: Vec<&str> = kind.split('/').collect();
    match parts[..] {
        ["content"] => {
            id.parse::<Digest>()?;
        }
        ["ingests" | "images"] => {}
        ["snapshots", snapshotter] if !snapshotter.is_empty() => {}
        ["content" | "ingests" | "images" | "snapshots", ..] => {
            return Err(Error::invalid_argument(format!("invalid resource type {kind:?}")));
        }
        _ => return Err(Error::unimplemented(format!("resource type {kind:?} cannot be leased"))),
    }
    Ok(resource.clone())
}

/// The time in nanoseconds and four random characters (L01).
fn random_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = rand::rng();
    let tail: String = (0..4).map(|_| char::from(ALPHABET[random.random_range(0..64)])).collect();
    format!("{}-{tail}", row::nanoseconds(std::time::SystemTime::now()))
}

#[cfg(test)]
mod tests;
