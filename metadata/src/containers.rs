//! Containers of one namespace (rows C01-C14).

use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_types::{Error, FieldPath, Namespace, Result, UpdateMask, validate_identifier, validate_labels};

use crate::{
    Container, MetadataEvent,
    change::Change,
    mask,
    node::{Kind, Node},
    row, search,
    tables::{In, within},
    view::View,
};

/// The paths that an update without any stands for (C07).
const MUTABLE: [&str; 5] = ["labels", "spec", "extensions", "image", "snapshotkey"];

/// The containers of one namespace.
#[derive(Clone, Debug)]
pub struct Containers(pub(crate) View);

impl Containers {
    /// The container called `id`.
    ///
    /// # Errors
    /// `NotFound` if there is none (C01).
    pub async fn get(&self, id: &str) -> Result<Container> {
        let (namespace, id) = (self.0.namespace.clone(), id.to_owned());
        self.0.metadata.read(move |connection| find(connection, &namespace, &id)).await
    }

    /// Up to `limit` that match, in the order of their ids, beginning after `after` (C02).
    pub async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<Container>> {
        let (namespace, filters, after) =
            (self.0.namespace.clone(), filters.clone(), after.map(str::to_owned));
        self.0
            .metadata
            .read(move |connection| {
                search::list(connection, &[namespace.as_str()], after.as_deref(), limit, &filters)
            })
            .await
            .map(|rows: Vec<In<Container>>| rows.into_iter().map(|row| row.record).collect())
    }

    /// Creates it and returns what is stored (C04).
    ///
    /// # Errors
    /// - `InvalidArgument`: the id, a label, the runtime's name, the spec, the snapshotter or an extension's key.
    /// - `AlreadyExists`: the id is taken.
    pub async fn create(&self, container: Container) -> Result<Container> {
        validate_identifier("container id", &container.id)?;
        let mut container = container;
        mask::finish_labels(&mut container.labels)?;
        validate(&container)?;
        let namespace = self.0.namespace.clone();
        self.0
            .metadata
            .write(move |change| {
                let mut stored = container.clone();
                stored.created_at = change.now;
                stored.updated_at = change.now;
                change.ensure_namespace(&namespace)?;
                if !row::insert(change.connection, &within(&namespace, stored.clone()))? {
                    return Err(Error::already_exists(format!("container {:?}", stored.id)).into());
                }
                touch(change, &namespace, &stored.id);
                let event = MetadataEvent::ContainerCreate {
                    id: stored.id.clone(),
                    image: stored.image.clone(),
                    runtime: stored.runtime.clone(),
                };
                change.publish(&namespace, event);
                Ok(stored)
            })
            .await
    }

    /// Changes it and returns what a client is told, which for extensions is not all that is stored (C06-C08).
    ///
    /// # Errors
    /// - `InvalidArgument`: no id, an unknown path, a field that never changes.
    /// - `NotFound`: no such container.
    pub async fn update(&self, container: Container, mask: &UpdateMask) -> Result<Container> {
        if container.id.is_empty() {
            return Err(Error::invalid_argument("Container.ID required"));
        }
        let (namespace, mask) = (self.0.namespace.clone(), mask.clone());
        self.0
            .metadata
            .write(move |change| {
                let old = find(change.connection, &namespace, &container.id)?;
                let mut told = changed(&old, &container, &mask)?;
                told.updated_at = change.now;
                // Keys that the new map lacks stay in the store (C08).
                let mut stored = told.clone();
                stored.extensions = old.extensions;
                stored.extensions.extend(told.extensions.clone());
                row::replace(change.connection, &within(&namespace, stored))?;
                touch(change, &namespace, &told.id);
                if old.snapshot_key != told.snapshot_key || old.labels != told.labels {
                    change.deleted();
                }
                let event = MetadataEvent::ContainerUpdate {
                    id: told.id.clone(),
                    image: told.image.clone(),
                    labels: told.labels.clone(),
                    snapshot_key: told.snapshot_key.clone(),
                };
                change.publish(&namespace, event);
                Ok(told)
            })
            .await
    }

    /// Deletes it; its snapshot may then be collected (C11).
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let (namespace, id) = (self.0.namespace.clone(), id.to_owned());
        self.0
            .metadata
            .write_freeing(move |change| {
                if !row::delete::<In<Container>>(change.connection, &[namespace.as_str(), &id])? {
                    return Err(missing(&id).into());
                }
                change.deleted();
                change.publish(&namespace, MetadataEvent::ContainerDelete { id: id.clone() });
                Ok(())
            })
            .await
    }
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("container {id:?}"))
}

fn find(connection: &Connection, namespace: &Namespace, id: &str) -> Result<Container> {
    let found: Option<In<Container>> = row::get(connection, &[namespace.as_str(), id])?;
    found.map(|row| row.record).ok_or_else(|| missing(id))
}

fn touch(change: &Change<'_>, namespace: &Namespace, id: &str) {
    change.touch(|| Node::new(Kind::Container, &namespace.as_str().into(), id));
}

/// What the container is after the update, with the extensions that a client is told (C06-C08).
fn changed(old: &Container, new: &Container, mask: &UpdateMask) -> Result<Container> {
    let mut result = old.clone();
    if mask.replaces_all() {
        if new.snapshotter != old.snapshotter {
            return Err(Error::invalid_argument("container.Snapshotter field is immutable"));
        }
        if new.runtime.name != old.runtime.name {
            return Err(Error::invalid_argument("container.Runtime.Name field is immutable"));
        }
        for field in MUTABLE {
            set(&mut result, new, &FieldPath { field, key: None })?;
        }
    }
    for path in mask.paths() {
        set(&mut result, new, &path)?;
    }
    mask::finish_labels(&mut result.labels)?;
    validate(&result)?;
    Ok(result)
}

fn set(result: &mut Container, new: &Container, path: &FieldPath<'_>) -> Result<()> {
    match *path {
        FieldPath { field: "labels", key } => mask::set_map(&mut result.labels, &new.labels, key),
        FieldPath { field: "extensions", key } => mask::set_map(&mut result.extensions, &new.extensions, key),
        FieldPath { field: "spec", key: None } => result.spec.clone_from(&new.spec),
        FieldPath { field: "image", key: None } => result.image.clone_from(&new.image),
        FieldPath { field: "snapshotkey", key: None } => result.snapshot_key.clone_from(&new.snapshot_key),
        _ => return Err(mask::unknown(&format!("container {:?}", result.id), path)),
    }
    Ok(())
}

/// C04.
fn validate(container: &Container) -> Result<()> {
    let wrong = |what: &str| Err(Error::invalid_argument(format!("container {:?}: {what}", container.id)));
    if container.extensions.keys().any(String::is_empty) {
        return wrong("extension keys must not be empty");
    }
    validate_labels(&container.labels)?;
    if container.runtime.name.is_empty() {
        return wrong("container.Runtime.Name must be set");
    }
    if container.spec.is_none() {
        return wrong("container.Spec must be set");
    }
    if !container.snapshot_key.is_empty() && container.snapshotter.is_empty() {
        return wrong("container.Snapshotter must be set if container.SnapshotKey is set");
    }
    Ok(())
}
