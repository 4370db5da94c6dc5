//! Namespaces (rows NS1-NS7).

use corten_database::rusqlite::Connection;
use corten_types::{Error, Labels, Namespace, Result, UpdateMask};

use crate::{Metadata, MetadataEvent, NamespaceInfo, mask, resources, row};

/// All namespaces.
#[derive(Clone, Debug)]
pub struct Namespaces(pub(crate) Metadata);

/// What keeps a namespace from being deleted (NS5): what a message calls it, and its table.
const CONTENTS: [(&str, &str); 3] = [("images", "images"), ("blobs", "blobs"), ("containers", "containers")];

/// What goes with a namespace.
const BELONGINGS: [&str; 4] = ["leases", "lease_resources", "sandboxes", "back_references"];

impl Namespaces {
    /// The namespace, with empty labels if it does not exist: never `NotFound` (NS1).
    ///
    /// # Errors
    /// Only if the database cannot be read.
    pub async fn get(&self, name: &Namespace) -> Result<NamespaceInfo> {
        let name = name.clone();
        self.0
            .read(move |connection| {
                let found = row::get(connection, &[name.as_str()])?;
                Ok(found.unwrap_or_else(|| NamespaceInfo { name: name.clone(), labels: Labels::new() }))
            })
            .await
    }

    /// All of them, in the order of their names (NS2).
    ///
    /// # Errors
    /// Only if the database cannot be read.
    pub async fn list(&self) -> Result<Vec<NamespaceInfo>> {
        self.0.read(|connection| row::list(connection, &[], None, usize::MAX, |_| true)).await
    }

    /// Creates it (NS3).
    ///
    /// # Errors
    /// - `AlreadyExists`: it exists, perhaps only because something was created in it (G02).
    /// - `InvalidArgument`: a label that is too long.
    pub async fn create(&self, name: &Namespace, mut labels: Labels) -> Result<NamespaceInfo> {
        mask::finish_labels(&mut labels)?;
        let info = NamespaceInfo { name: name.clone(), labels };
        self.0
            .write(move |change| {
                if !row::insert(change.connection, &info)? {
                    return Err(Error::already_exists(format!("namespace {}", info.name)).into());
                }
                let event =
                    MetadataEvent::NamespaceCreate { name: info.name.clone(), labels: info.labels.clone() };
                change.publish(&info.name, event);
                Ok(info.clone())
            })
            .await
    }

    /// Changes its labels, creating it if need be (NS4). Paths are `labels.<key>`; without any, all labels are replaced.
    /// The event has the labels of the call, as they were given.
    ///
    /// # Errors
    /// `InvalidArgument`: an unknown path, or a label that is too long.
    pub async fn update(
        &self,
        name: &Namespace,
        labels: &Labels,
        mask: &UpdateMask,
    ) -> Result<NamespaceInfo> {
        let (name, labels, asked) = (name.clone(), labels.clone(), mask.clone());
        self.0
            .write(move |change| {
                let found: Option<NamespaceInfo> = row::get(change.connection, &[name.as_str()])?;
                let mut stored = found.map(|info| info.labels).unwrap_or_default();
                if let Some(path) = asked.paths().find(|path| path.key.is_none()) {
                    return Err(mask::unknown(&format!("namespace {name}"), &path).into());
                }
                mask::set_labels(&format!("namespace {name}"), &mut stored, &labels, &asked)?;
                let info = NamespaceInfo { name: name.clone(), labels: stored };
                row::replace(change.connection, &info)?;
                let event = MetadataEvent::NamespaceUpdate { name: name.clone(), labels: labels.clone() };
                change.publish(&name, event);
                Ok(info)
            })
            .await
    }

    /// Deletes it with its leases, ingests, sandboxes and activated mounts (NS5).
    ///
    /// # Errors
    /// - `NotFound`: it does not exist.
    /// - `FailedPrecondition`: it has images, blobs, containers or snapshots; the message says which.
    pub async fn delete(&self, name: &Namespace) -> Result<()> {
        let name = name.clone();
        self.0
            .write_freeing(move |change| {
                let connection = change.connection;
                if !row::delete::<NamespaceInfo>(connection, &[name.as_str()])? {
                    return Err(Error::not_found(format!("namespace {name}")).into());
                }
                let contents = contents(connection, &name)?;
                if !contents.is_empty() {
                    let contents = contents.join(", ");
                    let message =
                        format!("namespace {:?} must be empty, but it still has {contents}", name.as_str());
                    return Err(Error::failed_precondition(message).into());
                }
                resources::remove_all(change, &name)?;
                row::execute(
                    connection,
                    "INSERT INTO tombstones (kind, id)
                     SELECT 'ingests', backend_ref FROM ingests WHERE namespace = ?1 AND backend_ref != ''",
                    [name.as_str()],
                )?;
                for table in BELONGINGS.iter().chain(&["ingests"]) {
                    let text = format!("DELETE FROM {table} WHERE namespace = ?1");
                    row::execute(connection, &text, [name.as_str()])?;
                }
                change.deleted();
                change.publish(&name, MetadataEvent::NamespaceDelete { name: name.clone() });
                Ok(())
            })
            .await
    }
}

fn contents(connection: &Connection, name: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (what, table) in CONTENTS {
        let text = format!("SELECT 1 FROM {table} WHERE namespace = ?1");
        if row::exists(connection, &text, [name.as_str()])? {
            found.push(what.to_owned());
        }
    }
    let text = "SELECT DISTINCT snapshotter FROM snapshots WHERE namespace = ?1 ORDER BY snapshotter";
    row::query(connection, text, [name.as_str()], |row| {
        found.push(format!("snapshots on {:?} snapshotter", row.get::<_, String>(0)?));
        Ok(())
    })?;
    Ok(found)
}
