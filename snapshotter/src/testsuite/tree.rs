//! Files for cases, and whether two folders hold the same.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

/// What is compared of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    links: u64,
    content: Vec<u8>,
    attribute: Option<Vec<u8>>,
}

/// The attribute that is compared; others belong to the filesystem.
const ATTRIBUTE: &str = "user.testsuite";

pub(super) fn write(root: &Path, name: &str, text: &str) {
    write_bytes(root, name, text.as_bytes());
}

#[expect(clippy::disallowed_methods, reason = "what is tested is whether the snapshotter keeps it")]
pub(super) fn write_bytes(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
}

pub(super) fn folder(root: &Path, name: &str, mode: u32) {
    std::fs::create_dir(root.join(name)).unwrap_or_else(|error| panic!("cannot make {name}: {error}"));
    chmod(root, name, mode);
}

pub(super) fn chmod(root: &Path, name: &str, mode: u32) {
    std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("cannot change the mode of {name}: {error}"));
}

pub(super) fn chown(root: &Path, name: &str, owner: u32) {
    std::os::unix::fs::lchown(root.join(name), Some(owner), Some(owner))
        .unwrap_or_else(|error| panic!("cannot change the owner of {name}: {error}"));
}

pub(super) fn remove(root: &Path, name: &str) {
    let path = root.join(name);
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
        .unwrap_or_else(|error| panic!("cannot remove {name}: {error}"));
}

#[expect(clippy::disallowed_methods, reason = "what is tested is whether the snapshotter keeps it")]
pub(super) fn rename(root: &Path, from: &str, to: &str) {
    std::fs::rename(root.join(from), root.join(to))
        .unwrap_or_else(|error| panic!("cannot rename {from} to {to}: {error}"));
}

pub(super) fn link(root: &Path, from: &str, to: &str) {
    std::fs::hard_link(root.join(from), root.join(to))
        .unwrap_or_else(|error| panic!("cannot link {from} to {to}: {error}"));
}

pub(super) fn symlink(root: &Path, target: &str, name: &str) {
    std::os::unix::fs::symlink(target, root.join(name))
        .unwrap_or_else(|error| panic!("cannot link {name} to {target}: {error}"));
}

/// A fifo, and a device like /dev/null.
pub(super) fn special_files(root: &Path, fifo: &str, device: &str) {
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, root.join(fifo), FileType::Fifo, mode, 0).expect("a fifo can be made");
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, root.join(device), FileType::CharacterDevice, mode, null)
        .expect("a device can be made");
}

/// Sets an attribute; `false` where the filesystem has none.
pub(super) fn attribute(root: &Path, name: &str, value: &str) -> bool {
    rustix::fs::lsetxattr(root.join(name), ATTRIBUTE, value.as_bytes(), XattrFlags::empty()).is_ok()
}

/// Fails unless both folders hold the same files, with the same modes, owners, bytes, links and attributes.
#[track_caller]
pub(super) fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (scan(left), scan(right));
    let names = |tree: &BTreeMap<PathBuf, Seen>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    for (name, seen) in &left {
        assert_eq!(Some(seen), right.get(name), "{}", name.display());
    }
}

fn scan(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        let listing = std::fs::read_dir(root.join(&folder))
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        for entry in listing {
            let entry = entry.expect("a folder can be listed");
            let name = folder.join(entry.file_name());
            let seen = look(&entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(name.clone());
            }
            tree.insert(name, seen);
        }
    }
    tree
}

fn look(path: &Path) -> Seen {
    let found =
        path.symlink_metadata().unwrap_or_else(|error| panic!("cannot look at {}: {error}", path.display()));
    let kind = found.file_type();
    let content = if kind.is_file() {
        std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    } else if kind.is_symlink() {
        let target = std::fs::read_link(path).expect("a link has a target");
        target.into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    let is_device = kind.is_char_device() || kind.is_block_device();
    let mut value = vec![0; 256];
    let attribute = rustix::fs::lgetxattr(path, ATTRIBUTE, value.as_mut_slice()).ok();
    Seen {
        mode: found.mode(),
        owner: (found.uid(), found.gid()),
        device: if is_device { found.rdev() } else { 0 },
        links: if kind.is_dir() { 0 } else { found.nlink() },
        content,
        attribute: attribute.map(|length| value[..length].to_vec()),
    }
}
