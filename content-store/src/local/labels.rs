//! Labels in files, for stores that keep them (rows T02, T16): `labels/<algorithm>/<hex>` beside the blobs.
//!
//! Keys and values alternate, each as a netstring (`3:key,5:value,`), because they may hold anything. A file is replaced as
//! a whole. A blob without one has no labels.

use std::{fs, io, path::Path, time::SystemTime};

use corten_disk::Disk;
use corten_types::{Digest, Error, FieldPath, Labels, Result, UpdateMask, validate_labels};

/// The most bytes that the labels of one blob may take in their file.
pub const MAX_LABELS_BYTES: usize = 1 << 20;

/// The labels in the file at `path`, and when they were last changed; `None` if there is no file.
pub(crate) fn read(path: &Path, digest: &Digest) -> Result<Option<(Labels, SystemTime)>> {
    let failed = |error: io::Error| Error::io(format!("cannot read the labels of blob {digest}"), error);
    let damaged = || Error::data_loss(format!("the labels of blob {digest} are damaged: {}", path.display()));
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() || metadata.len() > MAX_LABELS_BYTES as u64 {
        return Err(damaged());
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let labels = decode(&bytes).ok_or_else(damaged)?;
    Ok(Some((labels, metadata.modified().map_err(failed)?)))
}

/// Puts `labels` into the file at `path`, durably. Nothing changes if they are refused.
pub(crate) fn write(disk: &Disk, path: &Path, digest: &Digest, labels: &Labels) -> Result<()> {
    let failed = |error: io::Error| Error::io(format!("cannot write the labels of blob {digest}"), error);
    if labels.is_empty() && path.symlink_metadata().is_err() {
        return Ok(());
    }
    disk.replace_file(path, &encode(labels, digest)?, 0o644).map_err(failed)
}

/// Checks labels before anything is done with them, and drops those without a value (rows X11, X12).
pub(crate) fn finish(labels: &mut Labels, digest: &Digest) -> Result<()> {
    labels.retain(|_, value| !value.is_empty());
    validate_labels(labels)?;
    encode(labels, digest).map(drop)
}

/// Changes `labels` as an update says (row T02).
pub(crate) fn apply(labels: &mut Labels, wanted: &Labels, mask: &UpdateMask, digest: &Digest) -> Result<()> {
    if mask.replaces_all() {
        labels.clone_from(wanted);
    }
    for path in mask.paths() {
        match path {
            FieldPath { field: "labels", key: None } => labels.clone_from(wanted),
            FieldPath { field: "labels", key: Some(key) } => match wanted.get(key) {
                Some(value) => drop(labels.insert(key.to_owned(), value.clone())),
                None => drop(labels.remove(key)),
            },
            FieldPath { field, .. } => {
                return Err(Error::invalid_argument(format!("cannot update {field:?} of blob {digest}")));
            }
        }
    }
    finish(labels, digest)
}

fn encode(labels: &Labels, digest: &Digest) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend_from_slice(format!("{}:{text},", text.len()).as_bytes());
    }
    if bytes.len() > MAX_LABELS_BYTES {
        return Err(Error::invalid_argument(format!(
            "the labels of blob {digest} take {} bytes; at most {MAX_LABELS_BYTES} are allowed",
            bytes.len()
        )));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Labels> {
    let (mut labels, mut rest) = (Labels::new(), std::str::from_utf8(bytes).ok()?);
    while !rest.is_empty() {
        let (key, after_key) = netstring(rest)?;
        let (value, after_value) = netstring(after_key)?;
        labels.insert(key.to_owned(), value.to_owned());
        rest = after_value;
    }
    Some(labels)
}

fn netstring(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = text.split_once(':')?;
    let (content, rest) = rest.split_at_checked(length.parse().ok()?)?;
    Some((content, rest.strip_prefix(',')?))
}

#[cfg(test)]
mod tests;
