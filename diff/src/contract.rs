//! The contract: applying a layer to mounts and computing one from mounts.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use corten_content_store::{BlobReader, ContentStore, FollowedIngest};
use corten_types::{Any, Descriptor, Labels, Mount, Result};

/// How a layer is applied.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// Flush the target's filesystem before returning (row D03).
    pub sync_fs: bool,
    /// What external stream processors are handed, by their id (row D02).
    pub payloads: BTreeMap<String, Any>,
}

/// How a layer is computed.
#[derive(Clone, Debug, Default)]
pub struct CompareOptions {
    /// The media type wanted; empty for a gzip-compressed OCI layer (row D05).
    pub media_type: String,
    /// The ingest key to write under; empty for a random one that is given up on failure (row D06).
    pub key: String,
    /// Labels of the resulting blob.
    pub labels: Labels,
    /// No time in the layer is later than this (row D07).
    pub source_date_epoch: Option<SystemTime>,
}

/// Unpacks layers.
#[async_trait]
pub trait Applier: Send + Sync {
    /// Unpacks the layer `descriptor` from `content` into `mounts`; returns the descriptor of the uncompressed
    /// layer, whose digest is the diff id and covers every byte, also those after the archive's end (row A06).
    async fn apply(
        &self,
        content: &dyn BlobReader,
        descriptor: &Descriptor,
        mounts: &[Mount],
        options: ApplyOptions,
    ) -> Result<Descriptor>;
}

/// Unpacks layers while they still arrive.
#[async_trait]
pub trait EarlyApplier: Send + Sync {
    /// Unpacks the layer `descriptor`, whose bytes somebody still writes to `ingest`, into `mounts`; returns what
    /// [`Applier::apply`] returns, when the ingest is a blob with the descriptor's digest and size. No byte beyond the
    /// descriptor's size is read.
    ///
    /// Until then the folder that is unpacked into has mode 0700, so that nobody but its owner meets what nobody has checked;
    /// then it gets its own mode back. After an error, and when the future is dropped, it is emptied first (on a thread, which
    /// a dropped future does not wait for). A crash leaves it closed: remove the snapshot.
    ///
    /// # Errors
    /// `Unimplemented`: the mounts are not one empty folder that is reached without mounting it, or it is no kind of layer
    /// that this applier reads. `InvalidArgument`: the ingest is not followed for as many bytes as the descriptor states.
    /// `DataLoss`: it became another blob. `Aborted`: it became none. Besides those of [`Applier::apply`].
    async fn apply_early(
        &self,
        ingest: Arc<dyn FollowedIngest>,
        descriptor: &Descriptor,
        mounts: &[Mount],
        options: ApplyOptions,
    ) -> Result<Descriptor>;
}

/// Computes layers.
#[async_trait]
pub trait Comparer: Send + Sync {
    /// Writes the layer that turns `lower` into `upper` to `content` and returns its descriptor.
    async fn compare(
        &self,
        content: &dyn ContentStore,
        lower: &[Mount],
        upper: &[Mount],
        options: CompareOptions,
    ) -> Result<Descriptor>;
}
