//! The contract: applying a layer to mounts and computing one from mounts.

use std::{collections::BTreeMap, time::SystemTime};

use async_trait::async_trait;
use corten_content_store::{BlobReader, ContentStore};
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
