//! What filters see of blobs and ingests.

use std::borrow::Cow;

use corten_filter::Fields;

use crate::{BlobInfo, IngestStatus};

/// `digest` and `labels.<key>` (row T03).
impl Fields for BlobInfo {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["digest"] => Some(Cow::Borrowed(self.digest.as_str())),
            ["labels", key @ ..] => {
                self.labels.get(&key.join(".")).map(|value| Cow::Borrowed(value.as_str()))
            }
            _ => None,
        }
    }
}

/// `ref` (row T07).
impl Fields for IngestStatus {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        (path == ["ref"]).then_some(Cow::Borrowed(self.key.as_str()))
    }
}
