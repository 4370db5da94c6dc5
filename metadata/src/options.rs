//! How a store is opened.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use corten_content_store::ContentStore;
use corten_disk::Disk;
use corten_snapshotter::Snapshotter;

use crate::{Collectible, EventSink, NoEvents};

/// Whether a blob that one namespace has can be had by another without sending its bytes (T11, G04).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentSharing {
    /// Who knows the digest gets the blob.
    #[default]
    Shared,
    /// Every namespace must send the bytes, unless the owner has the label `containerd.io/namespace.shareable=true`.
    Isolated,
}

/// What a store is opened with. `new` has the defaults; the fields may be changed afterwards.
pub struct Options {
    /// The database file, absolute. Its folder must exist; `-wal` and `-shm` files appear beside it.
    pub path: PathBuf,
    /// Where the bytes of blobs are.
    pub content: Arc<dyn ContentStore>,
    /// Where trees are, by the name that clients use (`overlayfs`).
    pub snapshotters: BTreeMap<String, Arc<dyn Snapshotter>>,
    /// What looks after things that are collected like snapshots, by their kind (`mount`).
    pub collectibles: BTreeMap<String, Arc<dyn Collectible>>,
    /// Whether blobs are shared.
    pub content_sharing: ContentSharing,
    /// Who hears of changes.
    pub events: Arc<dyn EventSink>,
    /// When collections happen.
    pub schedule: corten_gc::Schedule,
    /// Whether collections happen by themselves; without it only when [`Metadata::collect`](crate::Metadata::collect)
    /// is called.
    pub automatic: bool,
    /// How long one batch of a sweep may keep the writer at the most. It takes about as long as a commit usually does,
    /// within this.
    pub sweep_batch: Duration,
    /// Is called on a task of the runtime after each collection, which freed the memory that its graph took. It must not
    /// block.
    pub after_collection: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Whether what a crash left is set right at open. Without it rows and bytes stay as they are, whatever they say of each
    /// other: for programs that look for damage.
    pub reconcile: bool,
    /// Why a store below cannot be trusted to have everything that it had, one sentence each: a reason for quarantine.
    pub doubts: Vec<String>,
    /// The folders of trees and blobs, absolute. Each holds a file `metadata-id` with the identity of the database it belongs
    /// to:
    /// one that is missing is written, one that names another database means quarantine.
    pub folders: Vec<PathBuf>,
    /// The disk that the database and those files are on.
    pub disk: Disk,
}

impl Options {
    /// The defaults for a database at `path` over `content`, without snapshotters.
    pub fn new(path: impl Into<PathBuf>, content: Arc<dyn ContentStore>) -> Self {
        Self {
            path: path.into(),
            content,
            snapshotters: BTreeMap::new(),
            collectibles: BTreeMap::new(),
            content_sharing: ContentSharing::default(),
            events: Arc::new(NoEvents),
            schedule: corten_gc::Schedule::default(),
            automatic: true,
            sweep_batch: Duration::from_millis(5),
            after_collection: None,
            reconcile: true,
            doubts: Vec::new(),
            folders: Vec::new(),
            disk: Disk::new(),
        }
    }
}
