//! Sandboxes of one namespace: the store's rows (SB1-SB3).

use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_types::{Error, FieldPath, Namespace, Result, UpdateMask, validate_identifier};

use crate::{
    Sandbox,
    change::Change,
    mask,
    node::{Kind, Node},
    row,
    tables::{In, within},
    view::View,
};

/// The paths that an update without any stands for (SB2).
const MUTABLE: [&str; 4] = ["labels", "extensions", "spec", "runtime"];

/// The sandboxes of one namespace.
#[derive(Clone, Debug)]
pub struct Sandboxes(pub(crate) View);

impl Sandboxes {
    /// The sandbox called `id`.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn get(&self, id: &str) -> Result<Sandbox> {
        let (namespace, id) = (self.0.namespace.clone(), id.to_owned());
        self.0.metadata.read(move |connection| find(connection, &namespace, &id)).await
    }

    /// Up to `limit` that match, in the order of their ids, beginning after `after`.
    pub async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<Sandbox>> {
        let (namespace, filters, after) =
            (self.0.namespace.clone(), filters.clone(), after.map(str::to_owned));
        self.0
            .metadata
            .read(move |connection| {
                let matches = |row: &In<Sandbox>| filters.matches(&row.record);
                row::list(connection, &[namespace.as_str()], after.as_deref(), limit, matches)
            })
            .await
            .map(|rows| rows.into_iter().map(|row| row.record).collect())
    }

    /// Creates it and returns what is stored (SB1).
    ///
    /// # Errors
    /// - `InvalidArgument`: the id.
    /// - `AlreadyExists`: the id is taken.
    pub async fn create(&self, sandbox: Sandbox) -> Result<Sandbox> {
        validate_identifier("sandbox id", &sandbox.id)?;
        let mut sandbox = sandbox;
        finish(&mut sandbox)?;
        let namespace = self.0.namespace.clone();
        self.0
            .metadata
            .write(move |change| {
                let mut stored = sandbox.clone();
                stored.created_at = change.now;
                stored.updated_at = change.now;
                change.ensure_namespace(&namespace)?;
                if !row::insert(change.connection, &within(&namespace, stored.clone()))? {
                    return Err(Error::already_exists(format!("sandbox {:?}", stored.id)).into());
                }
                touch(change, &namespace, &stored.id);
                Ok(stored)
            })
            .await
    }

    /// Changes it and returns what is stored (SB2).
    ///
    /// # Errors
    /// - `InvalidArgument`: an unknown path, or another runtime name.
    /// - `NotFound`: no such sandbox.
    pub async fn update(&self, sandbox: Sandbox, mask: &UpdateMask) -> Result<Sandbox> {
        let (namespace, mask) = (self.0.namespace.clone(), mask.clone());
        self.0
            .metadata
            .write(move |change| {
                let old = find(change.connection, &namespace, &sandbox.id)?;
                let mut told = changed(&old, &sandbox, &mask)?;
                told.updated_at = change.now;
                // Keys that the new map lacks stay in the store, as with containers (SB2, C08).
                let mut stored = told.clone();
                stored.extensions = old.extensions;
                stored.extensions.extend(told.extensions.clone());
                row::replace(change.connection, &within(&namespace, stored))?;
                touch(change, &namespace, &told.id);
                if old.labels != told.labels {
                    change.deleted();
                }
                Ok(told)
            })
            .await
    }

    /// Deletes it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let (namespace, id) = (self.0.namespace.clone(), id.to_owned());
        self.0
            .metadata
            .write_freeing(move |change| {
                if !row::delete::<In<Sandbox>>(change.connection, &[namespace.as_str(), &id])? {
                    return Err(missing(&id).into());
                }
                change.deleted();
                Ok(())
            })
            .await
    }
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("sandbox {id:?}"))
}

fn find(connection: &Connection, namespace: &Namespace, id: &str) -> Result<Sandbox> {
    let found: Option<In<Sandbox>> = row::get(connection, &[namespace.as_str(), id])?;
    found.map(|row| row.record).ok_or_else(|| missing(id))
}

fn touch(change: &Change<'_>, namespace: &Namespace, id: &str) {
    change.touch(|| Node::new(Kind::Sandbox, &namespace.as_str().into(), id));
}

fn changed(old: &Sandbox, new: &Sandbox, mask: &UpdateMask) -> Result<Sandbox> {
    let mut result = old.clone();
    if mask.replaces_all() {
        if new.runtime.name != old.runtime.name {
            return Err(Error::invalid_argument("sandbox.Runtime.Name field is immutable"));
        }
        for field in MUTABLE {
            set(&mut result, new, &FieldPath { field, key: None })?;
        }
    }
    for path in mask.paths() {
        set(&mut result, new, &path)?;
    }
    finish(&mut result)?;
    Ok(result)
}

fn set(result: &mut Sandbox, new: &Sandbox, path: &FieldPath<'_>) -> Result<()> {
    match *path {
        FieldPath { field: "labels", key } => mask::set_map(&mut result.labels, &new.labels, key),
        FieldPath { field: "extensions", key } => mask::set_map(&mut result.extensions, &new.extensions, key),
        FieldPath { field: "spec", key: None } => result.spec.clone_from(&new.spec),
        FieldPath { field: "runtime", key: None } => result.runtime = new.runtime.clone(),
        _ => return Err(mask::unknown(&format!("sandbox {:?}", result.id), path)),
    }
    Ok(())
}

/// Sandboxes' labels are not checked for size (X11).
fn finish(sandbox: &mut Sandbox) -> Result<()> {
    sandbox.labels.retain(|_, value| !value.is_empty());
    if sandbox.extensions.keys().any(String::is_empty) {
        return Err(Error::invalid_argument(format!(
            "sandbox {:?}: extension keys must not be empty",
            sandbox.id
        )));
    }
    Ok(())
}
