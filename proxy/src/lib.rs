#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connection;
mod content;
#[cfg(feature = "diff")]
mod diff;
mod ingest;
mod listing;
mod scope;
mod snapshotter;

pub use connection::{Connection, DIAL_PATIENCE, MAX_MESSAGE_BYTES};
pub use content::ContentProxy;
#[cfg(feature = "diff")]
pub use diff::DiffProxy;
pub use listing::MAX_LISTED;
pub use scope::Scope;
pub use snapshotter::SnapshotterProxy;
