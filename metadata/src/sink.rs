//! What happened, for whoever wants to know.

use corten_types::{Digest, Labels, Namespace};

use crate::Runtime;

/// Something that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataEvent {
    /// C05.
    ContainerCreate {
        /// Its id.
        id: String,
        /// The image's name.
        image: String,
        /// What runs it.
        runtime: Runtime,
    },
    /// C09.
    ContainerUpdate {
        /// Its id.
        id: String,
        /// The image's name.
        image: String,
        /// All its labels.
        labels: Labels,
        /// The key of its root filesystem.
        snapshot_key: String,
    },
    /// C12.
    ContainerDelete {
        /// Its id.
        id: String,
    },
    /// I06.
    ImageCreate {
        /// Its name.
        name: String,
        /// All its labels.
        labels: Labels,
    },
    /// I06.
    ImageUpdate {
        /// Its name.
        name: String,
        /// All its labels.
        labels: Labels,
    },
    /// I06; also for an image whose time was over (G28).
    ImageDelete {
        /// Its name.
        name: String,
    },
    /// S14; not for views (S03).
    SnapshotPrepare {
        /// The key.
        key: String,
        /// The name of the snapshot below it, or empty.
        parent: String,
        /// The snapshotter.
        snapshotter: String,
    },
    /// S14.
    SnapshotCommit {
        /// The key that is gone.
        key: String,
        /// The name it has now.
        name: String,
        /// The snapshotter.
        snapshotter: String,
    },
    /// S14; also for one that was collected (G28).
    SnapshotRemove {
        /// The key or name.
        key: String,
        /// The snapshotter.
        snapshotter: String,
    },
    /// T21.
    ContentCreate {
        /// The blob.
        digest: Digest,
        /// Its length.
        size_bytes: u64,
    },
    /// T04.
    ContentDelete {
        /// The blob.
        digest: Digest,
    },
    /// NS3.
    NamespaceCreate {
        /// Its name.
        name: Namespace,
        /// All its labels.
        labels: Labels,
    },
    /// NS4.
    NamespaceUpdate {
        /// Its name.
        name: Namespace,
        /// All its labels.
        labels: Labels,
    },
    /// NS5.
    NamespaceDelete {
        /// Its name.
        name: Namespace,
    },
}

/// Where events go.
pub trait EventSink: Send + Sync {
    /// Takes an event of something that is durable. Called in the order of the commits, on the database's writer
    /// thread: it must not block, and must not call back into the store.
    fn publish(&self, namespace: &Namespace, event: MetadataEvent);
}

/// A sink for those who do not want to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn publish(&self, _namespace: &Namespace, _event: MetadataEvent) {}
}
