//! The snapshotter contract, its conformance suite and the metastore implementations share.

mod contract;

pub use contract::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Snapshotter, Usage};
