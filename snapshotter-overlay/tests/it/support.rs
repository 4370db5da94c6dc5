//! A snapshotter in a folder of its own.

use std::path::{Path, PathBuf};

use corten_snapshotter::{SnapshotKeeper, SnapshotWriter, Snapshotter};
use corten_snapshotter_overlay::{Options, OverlaySnapshotter};
use corten_types::{Labels, Mount};

/// Whether a test that needs root has to be passed over.
pub(crate) fn needs_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    assert!(std::env::var_os("CORTEN_TEST_ROOT").is_none(), "CORTEN_TEST_ROOT is set, but this is not root");
    println!("skipped: needs root");
    true
}

pub(crate) fn open(root: &Path, options: Options) -> OverlaySnapshotter {
    OverlaySnapshotter::open(root, options).unwrap()
}

/// A committed snapshot with one file that is called like it.
pub(crate) async fn layer(snapshots: &OverlaySnapshotter, name: &str, parent: &str) {
    let key = format!("{name}-active");
    let mounts = snapshots.prepare(&key, parent, Labels::new()).await.unwrap();
    std::fs::File::create(upper_of(&mounts).join(name)).unwrap();
    snapshots.commit(name, &key, Labels::new(), None).await.unwrap();
}

/// The folder that takes what is written into a snapshot.
pub(crate) fn upper_of(mounts: &[Mount]) -> PathBuf {
    assert_eq!(mounts.len(), 1);
    if mounts[0].kind == "bind" {
        return PathBuf::from(&mounts[0].source);
    }
    let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir="));
    PathBuf::from(upper.unwrap())
}

/// The names in the folder of snapshots, sorted.
pub(crate) fn folders(root: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(root.join("snapshots")).unwrap();
    let mut names: Vec<String> =
        listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) async fn clean(snapshots: &dyn Snapshotter) {
    SnapshotKeeper::cleanup(snapshots).await.unwrap();
}
