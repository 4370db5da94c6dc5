//! The simplest snapshotter there can be.

use std::path::{Path, PathBuf};

use corten_snapshotter::{Driver, LocalSnapshotter, Placement, Removal, Trees};
use corten_types::{Labels, Mount, Result};

/// Folders with nothing in them.
pub(crate) struct Plain;

impl Driver for Plain {
    type Options = ();

    fn open(_trees: &Trees, (): ()) -> Result<Self> {
        Ok(Self)
    }

    fn capabilities(&self) -> Vec<String> {
        Vec::new()
    }

    fn create(&self, trees: &Trees, placement: &Placement) -> Result<()> {
        trees.create(placement.id, |_| Ok(()))
    }

    fn is_durable_from_the_start(&self, _placement: &Placement) -> bool {
        false
    }

    fn mend(&self, trees: &Trees, placement: &Placement) -> Result<bool> {
        Ok(self.is_there(trees, placement.id))
    }

    fn is_there(&self, trees: &Trees, id: u64) -> bool {
        trees.folder(id).is_dir()
    }

    fn mounts(&self, trees: &Trees, placement: &Placement) -> Vec<Mount> {
        let numbers = placement.parents.iter().map(u64::to_string).collect();
        let source = trees.folder(placement.id).display().to_string();
        vec![Mount { kind: "bind".to_owned(), source, target: String::new(), options: numbers }]
    }

    fn measured(&self, trees: &Trees, id: u64) -> PathBuf {
        trees.folder(id)
    }

    fn rebases(&self) -> bool {
        true
    }

    fn removal(&self) -> Removal {
        Removal::OnCleanup
    }

    fn add_labels(&self, _trees: &Trees, _id: u64, _labels: &mut Labels) {}
}

pub(crate) fn open(root: &Path) -> LocalSnapshotter<Plain> {
    LocalSnapshotter::open(root, ()).unwrap()
}
