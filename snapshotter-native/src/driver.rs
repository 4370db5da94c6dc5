//! What is in the folders of snapshots that are copies, and how they are mounted (row O20).

use std::path::PathBuf;

use corten_snapshotter::{Driver, Kind, Placement, Removal, Trees};
use corten_types::{Labels, Mount, Result};

use crate::copy::copy_tree;

/// Permission bits of the root of a snapshot without a parent.
const ROOT_MODE: u32 = 0o755;

/// How the snapshotter is set up. There is nothing to choose yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {}

/// Plain copies below [`NativeSnapshotter`](crate::NativeSnapshotter).
#[derive(Clone, Debug)]
pub struct Native(());

impl Driver for Native {
    type Options = Options;

    fn open(_trees: &Trees, _options: Options) -> Result<Self> {
        Ok(Self(()))
    }

    fn capabilities(&self) -> Vec<String> {
        Vec::new()
    }

    fn create(&self, trees: &Trees, placement: &Placement) -> Result<()> {
        match (placement.kind, placement.parents.first()) {
            // It is looked at through its parent's own folder.
            (Kind::View, Some(_)) => Ok(()),
            (_, parent) => trees.create(placement.id, |draft| {
                trees.set_mode(draft, ROOT_MODE)?;
                parent.map_or(Ok(()), |parent| copy_tree(&trees.folder(*parent), draft))
            }),
        }
    }

    /// Half a copy would look like files that somebody removed.
    fn is_durable_from_the_start(&self, placement: &Placement) -> bool {
        placement.kind == Kind::Active && !placement.parents.is_empty()
    }

    fn mend(&self, trees: &Trees, placement: &Placement) -> Result<bool> {
        if trees.folder(shown(placement)).is_dir() {
            return Ok(true);
        }
        if !placement.parents.is_empty() {
            return Ok(false);
        }
        self.create(trees, placement)?;
        Ok(true)
    }

    fn is_there(&self, trees: &Trees, id: u64) -> bool {
        trees.folder(id).is_dir()
    }

    fn mounts(&self, trees: &Trees, placement: &Placement) -> Vec<Mount> {
        let access = if placement.kind == Kind::View { "ro" } else { "rw" };
        vec![Mount {
            kind: "bind".to_owned(),
            source: trees.folder(shown(placement)).display().to_string(),
            target: String::new(),
            options: vec!["rbind".to_owned(), access.to_owned()],
        }]
    }

    fn measured(&self, trees: &Trees, id: u64) -> PathBuf {
        trees.folder(id)
    }

    fn rebases(&self) -> bool {
        false
    }

    fn removal(&self) -> Removal {
        Removal::AtOnce
    }

    fn add_labels(&self, _trees: &Trees, _id: u64, _labels: &mut Labels) {}
}

/// The number of the folder that is mounted: a view has its nearest parent's.
fn shown(placement: &Placement) -> u64 {
    match (placement.kind, placement.parents.first()) {
        (Kind::View, Some(parent)) => *parent,
        _ => placement.id,
    }
}
