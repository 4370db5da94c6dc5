#![doc = include_str!("../README.md")]

mod contract;
mod fields;
mod inspector;
mod local;
pub mod manifest;
mod metastore;
#[cfg(feature = "testsuite")]
pub mod testsuite;
mod trees;
mod usage;

pub use contract::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Snapshotter, Usage};
pub use inspector::{DamagedSnapshot, Folders, Inspector};
pub use local::{
    Driver, LocalSnapshotter, MeasuredUsage, OpenReport, Placement, Removal, Tree, TreeManifest,
};
pub use metastore::{Metastore, Row};
pub use trees::Trees;
pub use usage::disk_usage;
