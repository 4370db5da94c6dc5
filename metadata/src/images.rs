//! Images of one namespace (rows I01-I07).

use std::time::SystemTime;

use corten_database::rusqlite::Connection;
use corten_filter::Filters;
use corten_types::{Digest, Error, FieldPath, Labels, Namespace, Result, UpdateMask, validate_labels};

use crate::{
    Image, MetadataEvent,
    change::Change,
    mask,
    node::{self, Kind, Node},
    row, search,
    tables::{In, within},
    view::View,
};

/// The paths that an update without any stands for (I04).
const MUTABLE: [&str; 3] = ["labels", "target", "annotations"];

/// The images of one namespace.
#[derive(Clone, Debug)]
pub struct Images(pub(crate) View);

impl Images {
    /// The image called exactly `name`.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn get(&self, name: &str) -> Result<Image> {
        let (namespace, name) = (self.0.namespace.clone(), name.to_owned());
        self.0.metadata.read(move |connection| find(connection, &namespace, &name)).await
    }

    /// Up to `limit` that match, in the order of their names, beginning after `after` (I01).
    pub async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<Image>> {
        let (namespace, filters, after) =
            (self.0.namespace.clone(), filters.clone(), after.map(str::to_owned));
        self.0
            .metadata
            .read(move |connection| {
                search::list(connection, &[namespace.as_str()], after.as_deref(), limit, &filters)
            })
            .await
            .map(|rows: Vec<In<Image>>| rows.into_iter().map(|row| row.record).collect())
    }

    /// Creates it and returns what is stored (I02, I03). `source_date_epoch` stands for now in its times.
    ///
    /// # Errors
    /// - `InvalidArgument`: no name, no media type, no size, or a label that is too long.
    /// - `AlreadyExists`: the name is taken.
    /// - `NotFound`: the image has `containerd.io/gc.expire` and the view's lease does not exist.
    pub async fn create(&self, image: Image, source_date_epoch: Option<SystemTime>) -> Result<Image> {
        let mut image = image;
        mask::finish_labels(&mut image.labels)?;
        validate(&image)?;
        let view = self.0.clone();
        self.0
            .metadata
            .write(move |change| {
                let namespace = &view.namespace;
                let mut stored = image.clone();
                stored.created_at = source_date_epoch.unwrap_or(change.now);
                stored.updated_at = stored.created_at;
                change.ensure_namespace(namespace)?;
                if stored.labels.contains_key(node::EXPIRE) {
                    change.lease(namespace, view.lease.as_deref(), "images", &stored.name)?;
                }
                if !row::insert(change.connection, &within(namespace, stored.clone()))? {
                    return Err(Error::already_exists(format!("image {:?}", stored.name)).into());
                }
                stored_anew(change, namespace, &Labels::new(), &stored)?;
                let event =
                    MetadataEvent::ImageCreate { name: stored.name.clone(), labels: stored.labels.clone() };
                change.publish(namespace, event);
                Ok(stored)
            })
            .await
    }

    /// Changes it and returns what is stored (I04).
    ///
    /// # Errors
    /// - `InvalidArgument`: no name, an unknown path, or a value as in [`create`](Self::create).
    /// - `NotFound`: no such image.
    pub async fn update(
        &self,
        image: Image,
        mask: &UpdateMask,
        source_date_epoch: Option<SystemTime>,
    ) -> Result<Image> {
        if image.name.is_empty() {
            return Err(Error::invalid_argument("image name is required for update"));
        }
        let (namespace, mask) = (self.0.namespace.clone(), mask.clone());
        self.0
            .metadata
            .write(move |change| {
                let old = find(change.connection, &namespace, &image.name)?;
                let mut stored = changed(&old, &image, &mask)?;
                stored.updated_at = source_date_epoch.unwrap_or(change.now);
                row::replace(change.connection, &within(&namespace, stored.clone()))?;
                stored_anew(change, &namespace, &old.labels, &stored)?;
                if old.target != stored.target || old.labels != stored.labels {
                    change.deleted();
                }
                let event =
                    MetadataEvent::ImageUpdate { name: stored.name.clone(), labels: stored.labels.clone() };
                change.publish(&namespace, event);
                Ok(stored)
            })
            .await
    }

    /// Deletes it, if it names `target` or none is given (I05). For `sync`, call
    /// [`Metadata::collect`](crate::Metadata::collect) afterwards.
    ///
    /// # Errors
    /// `NotFound` if there is none, or it names something else.
    pub async fn delete(&self, name: &str, target: Option<&Digest>) -> Result<()> {
        let (view, name, target) = (self.0.clone(), name.to_owned(), target.cloned());
        self.0
            .metadata
            .write_freeing(move |change| {
                let old = find(change.connection, &view.namespace, &name)?;
                if let Some(target) = target.as_ref().filter(|target| **target != old.target.digest) {
                    let message = format!("image {name:?} names {}, not {target}", old.target.digest);
                    return Err(Error::not_found(message).into());
                }
                remove(change, &view.namespace, &old)?;
                change.release(&view.namespace, view.lease.as_deref(), "images", &name)?;
                change.deleted();
                Ok(())
            })
            .await
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("image {name:?}"))
}

fn find(connection: &Connection, namespace: &Namespace, name: &str) -> Result<Image> {
    let found: Option<In<Image>> = row::get(connection, &[namespace.as_str(), name])?;
    found.map(|row| row.record).ok_or_else(|| missing(name))
}

/// Removes the row and says so: for callers, and for the sweep (G28).
pub(crate) fn remove(change: &mut Change<'_>, namespace: &Namespace, image: &Image) -> Result<()> {
    row::delete::<In<Image>>(change.connection, &[namespace.as_str(), &image.name])?;
    let owner = Node::new(Kind::Image, &namespace.as_str().into(), image.name.as_str());
    change.index_labels(&owner, &image.labels, &Labels::new())?;
    change.publish(namespace, MetadataEvent::ImageDelete { name: image.name.clone() });
    Ok(())
}

fn stored_anew(change: &Change<'_>, namespace: &Namespace, old: &Labels, image: &Image) -> Result<()> {
    let owner = Node::new(Kind::Image, &namespace.as_str().into(), image.name.as_str());
    change.index_labels(&owner, old, &image.labels)?;
    change.touch(|| owner);
    Ok(())
}

fn changed(old: &Image, new: &Image, mask: &UpdateMask) -> Result<Image> {
    let mut result = old.clone();
    if mask.replaces_all() {
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

/// I04: the annotations of the target are a field of their own, which `target` leaves alone.
fn set(result: &mut Image, new: &Image, path: &FieldPath<'_>) -> Result<()> {
    match *path {
        FieldPath { field: "labels", key } => mask::set_map(&mut result.labels, &new.labels, key),
        FieldPath { field: "annotations", key } => {
            mask::set_map(&mut result.target.annotations, &new.target.annotations, key);
        }
        FieldPath { field: "target", key: None } => {
            let annotations = std::mem::take(&mut result.target.annotations);
            result.target = new.target.clone();
            result.target.annotations = annotations;
        }
        _ => return Err(mask::unknown(&format!("image {:?}", result.name), path)),
    }
    Ok(())
}

/// I02.
fn validate(image: &Image) -> Result<()> {
    if image.name.is_empty() {
        return Err(Error::invalid_argument("image name must not be empty"));
    }
    validate_labels(&image.labels)?;
    if image.target.size_bytes == 0 {
        return Err(Error::invalid_argument(format!(
            "image {:?}: target.size must be greater than zero",
            image.name
        )));
    }
    if image.target.media_type.is_empty() {
        return Err(Error::invalid_argument(format!(
            "image {:?}: target.mediaType must not be empty",
            image.name
        )));
    }
    Ok(())
}
