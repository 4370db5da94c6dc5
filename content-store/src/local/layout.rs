//! Where things are (row T23, `docs/formats/content-store.md`).

use std::path::{Path, PathBuf};

use corten_types::{Algorithm, Digest};

use crate::Hasher;

/// The paths below the root of a store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// The file of an ingest that becomes the blob.
pub(crate) const DATA: &str = "data";
/// The file of an ingest that holds its key.
pub(crate) const KEY: &str = "ref";
/// The file of an ingest that holds when it was first opened.
pub(crate) const STARTED_AT: &str = "startedat";
/// The file of an ingest that holds when it was last touched; the time of `data` may be later and then counts.
pub(crate) const UPDATED_AT: &str = "updatedat";
/// The file of an ingest that holds its final length, if that is known.
pub(crate) const TOTAL: &str = "total";

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn blobs_of(&self, algorithm: Algorithm) -> PathBuf {
        self.blobs().join(algorithm.name())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs_of(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn labels_of(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("labels").join(algorithm.name())
    }

    /// The labels of a blob, in a store that keeps them.
    pub(crate) fn labels(&self, digest: &Digest) -> PathBuf {
        self.labels_of(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// The folder of an ingest. Keys may hold anything, so it is named after their SHA-256.
    pub(crate) fn ingest(&self, key: &str) -> PathBuf {
        self.ingests().join(Hasher::digest_of(Algorithm::Sha256, key.as_bytes()).hex())
    }
}
