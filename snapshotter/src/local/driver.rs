//! What an implementation adds to a local snapshotter.

use std::path::PathBuf;

use corten_types::{Labels, Mount, Result};

use crate::{Kind, Trees};

/// One snapshot and what it stands on, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The number: its folder is `trees.folder(id)`.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// The numbers of the snapshots below, the nearest first.
    pub parents: Vec<u64>,
    /// Its labels.
    pub labels: Labels,
}

/// When the folder of a removed snapshot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// With the call that removes it; `cleanup` is not implemented then.
    AtOnce,
    /// With the call that removes it, or, if that failed, with `cleanup`.
    AtOnceOrOnCleanup,
    /// With the next `cleanup` (row O08).
    OnCleanup,
}

/// What is in the folders of snapshots and how they are mounted. Calls block.
pub trait Driver: Sized + Send + Sync + 'static {
    /// How it is opened.
    type Options;

    /// Looks whether the filesystem below `trees` can be used, and how.
    ///
    /// # Errors
    /// `FailedPrecondition`: it cannot.
    fn open(trees: &Trees, options: Self::Options) -> Result<Self>;

    /// The capabilities that clients see.
    fn capabilities(&self) -> Vec<String>;

    /// Makes the folder of a snapshot that is active or a view, whole, with [`Trees::create`]. It may do without one.
    ///
    /// # Errors
    /// `InvalidArgument`: labels that make no sense. Others: the disk. Nothing is left.
    fn create(&self, trees: &Trees, placement: &Placement) -> Result<()>;

    /// Whether what [`Driver::create`] made has to be on stable storage before there is a row.
    fn is_durable_from_the_start(&self, placement: &Placement) -> bool;

    /// Makes good, at open, what a power cut may have taken of a snapshot that is active or a view. Returns whether
    /// it is whole now.
    ///
    /// # Errors
    /// Those of the disk.
    fn mend(&self, trees: &Trees, placement: &Placement) -> Result<bool>;

    /// Whether the folder of a committed snapshot is there.
    fn is_there(&self, trees: &Trees, id: u64) -> bool;

    /// How the snapshot is mounted: the same each time.
    fn mounts(&self, trees: &Trees, placement: &Placement) -> Vec<Mount>;

    /// The folder that counts as what the snapshot takes.
    fn measured(&self, trees: &Trees, id: u64) -> PathBuf;

    /// Where the manifest of the snapshot's files is kept: not among them. It may be in the snapshot's folder, and goes
    /// with it then.
    fn manifest(&self, trees: &Trees, id: u64) -> PathBuf {
        trees.manifest(id)
    }

    /// Whether a snapshot that was made without a parent can be put on one by its commit (row O13).
    fn rebases(&self) -> bool;

    /// When folders of removed snapshots go.
    fn removal(&self) -> Removal;

    /// Adds labels that are not stored (row O07).
    fn add_labels(&self, trees: &Trees, id: u64, labels: &mut Labels);
}
