#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod change;
mod collection;
mod containers;
mod content;
mod fields;
mod identity;
mod images;
mod inspect;
mod leases;
mod locks;
mod mask;
mod mend;
mod metadata;
mod namespaces;
mod node;
mod open;
mod options;
mod records;
mod resources;
mod rfc3339;
mod row;
mod salvage;
mod sandboxes;
mod schema;
mod search;
mod sequence;
mod sink;
mod snapshots;
mod tables;
mod touched;
mod view;

pub use containers::Containers;
pub use content::Content;
pub use corten_database::{Health, Histogram, Statistics as DatabaseStatistics};
pub use images::Images;
pub use inspect::{DamagedRow, Page, RowKey, Stored, Table};
pub use leases::Leases;
pub use mend::{Hold, IngestHold};
pub use metadata::Metadata;
pub use namespaces::Namespaces;
pub use options::{ContentSharing, Options};
pub use records::{
    CollectionStats, Container, Image, Lease, NamespaceInfo, Resource, ResourceInfo, Runtime, Sandbox,
    Statistics,
};
pub use resources::{Begun, Collectible, Found, Resources};
pub use salvage::Salvaged;
pub use sandboxes::Sandboxes;
pub use sink::{EventSink, MetadataEvent, NoEvents};
pub use snapshots::Snapshots;
pub use tables::{BlobRow, In, IngestRow, PendingCommit, ResourceRow, SnapshotRow};
pub use view::View;
