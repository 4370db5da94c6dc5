//! Labels: short texts that clients and the collector attach to things.

use std::collections::BTreeMap;

use crate::Error;

/// Labels by key, sorted.
pub type Labels = BTreeMap<String, String>;

/// The longest label, key and value together (row X11).
pub const MAX_LABEL_BYTES: usize = 4096;

/// How much of a long key an error repeats.
const KEY_IN_ERROR_BYTES: usize = 64;

/// Checks the size of every label.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for the first label that is longer than [`MAX_LABEL_BYTES`].
pub fn validate_labels(labels: &Labels) -> Result<(), Error> {
    for (key, value) in labels {
        let total = key.len() + value.len();
        if total > MAX_LABEL_BYTES {
            let cut = key.floor_char_boundary(KEY_IN_ERROR_BYTES);
            return Err(Error::invalid_argument(format!(
                "label key and value have {total} bytes; at most {MAX_LABEL_BYTES} are allowed, key: {}",
                &key[..cut]
            )));
        }
    }
    Ok(())
}
