//! What is stored, as plain records.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use corten_types::{Any, Descriptor, Labels, Namespace};

/// Which runtime runs a container, and with what options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// For example `io.containerd.runc.v2`.
    pub name: String,
    /// Kept byte for byte.
    pub options: Option<Any>,
}

/// A container's row (§1.1 of the behaviour table): no state of a running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id (row X05).
    pub id: String,
    /// Its labels.
    pub labels: Labels,
    /// The name of the image it was made from; nothing checks that it exists (C04).
    pub image: String,
    /// What runs it. Never changes its name (C07).
    pub runtime: Runtime,
    /// The OCI runtime specification, kept byte for byte; required on creation (C04).
    pub spec: Option<Any>,
    /// The snapshotter that has its root filesystem. Never changes (C07).
    pub snapshotter: String,
    /// The key of its root filesystem in that snapshotter.
    pub snapshot_key: String,
    /// When it was created; what a caller gives is ignored (C04).
    pub created_at: SystemTime,
    /// When it was last changed; what a caller gives is ignored.
    pub updated_at: SystemTime,
    /// What clients attach, kept byte for byte.
    pub extensions: BTreeMap<String, Any>,
    /// The sandbox it belongs to, or empty. Never changes (C13).
    pub sandbox: String,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            id: String::new(),
            labels: Labels::new(),
            image: String::new(),
            runtime: Runtime::default(),
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: UNIX_EPOCH,
            updated_at: UNIX_EPOCH,
            extensions: BTreeMap::new(),
            sandbox: String::new(),
        }
    }
}

/// An image's row (§1.5): a name for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name: any text, not normalised (I01).
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// What it names. The annotations of the descriptor are stored apart (I04).
    pub target: Descriptor,
    /// When it was created; what a caller gives is ignored (I02).
    pub created_at: SystemTime,
    /// When it was last changed; what a caller gives is ignored.
    pub updated_at: SystemTime,
}

impl Image {
    /// An image without labels, for creation: the times are set by the store.
    pub fn new(name: impl Into<String>, target: Descriptor) -> Self {
        Self {
            name: name.into(),
            labels: Labels::new(),
            target,
            created_at: UNIX_EPOCH,
            updated_at: UNIX_EPOCH,
        }
    }
}

/// A lease's row (§1.7): it keeps what it names from being collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id: any text (L01).
    pub id: String,
    /// Its labels; `containerd.io/gc.expire` and `containerd.io/gc.flat` have meaning (L07).
    pub labels: Labels,
    /// When it was created.
    pub created_at: SystemTime,
}

/// One thing that a lease names (L04).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// `content`, `images`, `ingests` or `snapshots/<snapshotter>`.
    pub kind: String,
    /// A digest, a name, a ref or a key.
    pub id: String,
}

/// A sandbox's row (§1.10): what the store knows, not the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id (row X05).
    pub id: String,
    /// Its labels; they are not checked for size (X11).
    pub labels: Labels,
    /// What runs it.
    pub runtime: Runtime,
    /// Its specification, kept byte for byte.
    pub spec: Option<Any>,
    /// The controller that looks after it. Never changes.
    pub sandboxer: String,
    /// What clients attach, kept byte for byte.
    pub extensions: BTreeMap<String, Any>,
    /// When it was created; what a caller gives is ignored.
    pub created_at: SystemTime,
    /// When it was last changed; what a caller gives is ignored.
    pub updated_at: SystemTime,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            id: String::new(),
            labels: Labels::new(),
            runtime: Runtime::default(),
            spec: None,
            sandboxer: String::new(),
            extensions: BTreeMap::new(),
            created_at: UNIX_EPOCH,
            updated_at: UNIX_EPOCH,
        }
    }
}

/// Something that another part looks after (G07).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// Its name: any text.
    pub name: String,
    /// What the part that looks after it calls it; never given twice.
    pub number: u64,
    /// Its labels; they are not checked for size (X11).
    pub labels: Labels,
    /// What that part wants to remember, kept byte for byte; `None` until the thing is finished.
    pub data: Option<bytes::Bytes>,
    /// When it was begun.
    pub created_at: SystemTime,
}

/// A namespace and its labels (§1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: Namespace,
    /// Its labels.
    pub labels: Labels,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionStats {
    /// How long it took, from its start to the last removal.
    pub elapsed: Duration,
    /// How long reading the graph and marking took, during which writers went on.
    pub marking: Duration,
    /// The rows that were looked at.
    pub nodes: u64,
    /// The rows that were removed.
    pub rows_removed: u64,
    /// The blobs, ingests and snapshots whose bytes were removed.
    pub bytes_removed_of: u64,
    /// What could not be removed yet and is tried again by the next collection.
    pub postponed: u64,
}

/// Counts of collections since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Collections that went well.
    pub succeeded: u64,
    /// Collections that failed (G25).
    pub failed: u64,
    /// Rows that were removed.
    pub rows_removed: u64,
    /// Blobs, ingests and snapshots whose bytes were removed.
    pub bytes_removed_of: u64,
}
