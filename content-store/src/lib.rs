#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod contract;
mod fields;
mod hash;
mod local;
#[cfg(feature = "testsuite")]
pub mod testsuite;

pub use contract::{
    Announcer, Blob, BlobInfo, BlobReader, BlobWriter, CommitOptions, ContentStore, FollowedIngest, Ingest,
    IngestCatalog, IngestFollower, IngestOptions, IngestStatus, Ingester,
};
pub use hash::Hasher;
pub use local::{LocalStore, MAX_KEY_BYTES, MAX_LABELS_BYTES, MAX_OPEN_INGESTS};
