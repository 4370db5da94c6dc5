//! What this kernel and this filesystem can do.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corten_mount::UnmountFlags;
use corten_snapshotter::Trees;
use corten_types::{Error, Mount, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags};

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A number that is not zero, to see whether it arrives.
const PROBED_ID: u32 = 666;

/// Refuses a filesystem whose listings do not say what an entry is: overlayfs cannot hide files there (row O14).
///
/// # Errors
/// `FailedPrecondition`.
pub(crate) fn require_entry_types(root: &Path) -> Result<()> {
    let cannot =
        |error: rustix::io::Errno| Error::io(format!("cannot list {}", root.display()), error.into());
    let folder = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(cannot)?;
    for entry in Dir::new(folder).map_err(cannot)? {
        if entry.map_err(cannot)?.file_type() == FileType::Unknown {
            return Err(Error::failed_precondition(format!(
                "the filesystem of {} does not support d_type, which overlayfs needs; xfs has to be formatted with \
                 ftype=1",
                root.display()
            )));
        }
    }
    Ok(())
}

/// Whether this process is in a user namespace: not all ids are mapped to themselves.
pub(crate) fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    !whole && !map.is_empty()
}

/// Whether the kernel's overlayfs has an index that can be turned off (row O05).
pub(crate) fn knows_index() -> bool {
    Path::new("/sys/module/overlay/parameters/index").exists()
}

/// Whether overlays in a user namespace need, and take, `userxattr` (row O06).
pub(crate) fn takes_user_xattr(trees: &Trees) -> bool {
    // A negative magic number does not occur, but the type has a sign on some machines.
    let is_tmpfs = rustix::fs::statfs(trees.root()).is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC);
    !is_tmpfs && with_overlay(trees, &["userxattr"], None, |_| true)
}

/// Whether overlays can show mapped owners of their lower folders (row O10).
pub(crate) fn maps_ids(trees: &Trees) -> bool {
    let options = [format!("uidmap=0:{PROBED_ID}:1"), format!("gidmap=0:{PROBED_ID}:1")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let arrives = |merged: &Path| {
        merged.join("file").metadata().is_ok_and(|found| (found.uid(), found.gid()) == (PROBED_ID, PROBED_ID))
    };
    with_overlay(trees, &options, Some(PROBED_ID), arrives)
}

/// Mounts a small overlay with `options` and looks at it. Anything that fails means no.
fn with_overlay(
    trees: &Trees,
    options: &[&str],
    owner: Option<u32>,
    look: impl FnOnce(&Path) -> bool,
) -> bool {
    // The name is one of unfinished folders: what a crash leaves is removed at the next open.
    let folder = trees.root().join("snapshots").join("new-probe");
    clear(&folder);
    let answer = build(&folder, owner).is_some_and(|()| {
        let merged = folder.join("merged");
        let mut all = vec![
            format!("workdir={}", folder.join("work").display()),
            format!("upperdir={}", folder.join("upper").display()),
            format!("lowerdir={}:{}", folder.join("lower2").display(), folder.join("lower1").display()),
        ];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        let overlay =
            Mount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options: all };
        corten_mount::mount(&overlay, &merged).is_ok() && look(&merged)
    });
    clear(&folder);
    answer
}

fn build(folder: &Path, owner: Option<u32>) -> Option<()> {
    std::fs::create_dir(folder).ok()?;
    for name in ["lower1", "lower2", "upper", "work", "merged"] {
        std::fs::create_dir(folder.join(name)).ok()?;
    }
    std::fs::File::create(folder.join("lower1/file")).ok()?;
    let upper: PathBuf = folder.join("upper");
    std::os::unix::fs::lchown(upper, owner, owner).ok()
}

/// Leaves nothing of an overlay. Files go only if no mount is left to reach through.
fn clear(folder: &Path) {
    if corten_mount::unmount_recursive(folder, UnmountFlags::DETACH).is_ok() {
        let _ = std::fs::remove_dir_all(folder);
    }
}
