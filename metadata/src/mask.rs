//! What an update changes of labels and other maps.

use std::collections::BTreeMap;

use corten_types::{Error, FieldPath, Labels, Result, UpdateMask, validate_labels};

/// Changes one key of `current` or, without a key, all of it.
pub(crate) fn set_map<V: Clone>(
    current: &mut BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
    key: Option<&str>,
) {
    match key {
        None => current.clone_from(new),
        Some(key) => match new.get(key) {
            Some(value) => {
                current.insert(key.to_owned(), value.clone());
            }
            None => {
                current.remove(key);
            }
        },
    }
}

/// Changes labels where the mask may name nothing else (T02, S08, NS4); no path at all replaces them.
pub(crate) fn set_labels(what: &str, current: &mut Labels, new: &Labels, mask: &UpdateMask) -> Result<()> {
    if mask.replaces_all() {
        current.clone_from(new);
    }
    for path in mask.paths() {
        match path {
            FieldPath { field: "labels", key } => set_map(current, new, key),
            _ => return Err(unknown(what, &path)),
        }
    }
    finish_labels(current)
}

/// Drops labels without a value (X12) and checks the others (X11).
pub(crate) fn finish_labels(labels: &mut Labels) -> Result<()> {
    labels.retain(|_, value| !value.is_empty());
    validate_labels(labels)
}

/// The error for a path that cannot be changed.
pub(crate) fn unknown(what: &str, path: &FieldPath<'_>) -> Error {
    let dot = if path.key.is_some() { "." } else { "" };
    let key = path.key.unwrap_or_default();
    Error::invalid_argument(format!("cannot update {:?} of {what}", format!("{}{dot}{key}", path.field)))
}
