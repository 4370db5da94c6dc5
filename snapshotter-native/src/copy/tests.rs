use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags};

use super::copy_tree;

fn is_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CORTEN_TEST_ROOT").is_none(), "CORTEN_TEST_ROOT is set, but this is not root");
    println!("skipped: needs root");
    false
}

fn copied(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    std::fs::create_dir(&target).unwrap();
    fill(&source);
    copy_tree(&source, &target).unwrap();
    (folder, source, target)
}

#[test]
fn bytes_and_holes_are_copied() {
    const LENGTH: u64 = 8 << 20;
    let (_folder, source, target) = copied(|source| {
        let file = File::create(source.join("sparse")).unwrap();
        file.set_len(LENGTH).unwrap();
        file.write_all_at(b"middle", LENGTH / 2).unwrap();
        File::create(source.join("empty")).unwrap();
        File::create(source.join("hole")).unwrap().set_len(LENGTH).unwrap();
        File::create(source.join("plain")).unwrap().write_all_at(&[7; 100_001], 0).unwrap();
    });
    for name in ["sparse", "empty", "hole", "plain"] {
        let (from, to) = (source.join(name), target.join(name));
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap(), "{name}");
        let blocks = |path: &Path| {
            File::open(path).unwrap().sync_all().unwrap();
            path.metadata().unwrap().blocks()
        };
        assert!(blocks(&to) <= blocks(&from), "{name} grew");
    }
}

#[test]
fn modes_times_and_attributes_are_copied_also_of_folders_and_of_the_top() {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let (_folder, source, target) = copied(|source| {
        std::fs::create_dir_all(source.join("folder/deeper")).unwrap();
        File::create(source.join("folder/file")).unwrap();
        for (name, mode) in
            [("folder/file", 0o4751), ("folder/deeper", 0o2700), ("folder", 0o1777), ("", 0o711)]
        {
            let path = source.join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let _ = rustix::fs::lsetxattr(&path, "user.test", name.as_bytes(), XattrFlags::empty());
            File::open(&path).unwrap().set_modified(long_ago).unwrap();
        }
    });
    for name in ["folder/file", "folder/deeper", "folder", ""] {
        let (from, to) = (source.join(name), target.join(name));
        let (seen, expected) = (to.metadata().unwrap(), from.metadata().unwrap());
        assert_eq!(seen.mode(), expected.mode(), "{name}");
        assert_eq!(seen.modified().unwrap(), long_ago, "{name}");
        let attribute = |path: &Path| {
            let mut value = [0; 100];
            rustix::fs::lgetxattr(path, "user.test", &mut value[..])
                .ok()
                .map(|length| value[..length].to_vec())
        };
        assert_eq!(attribute(&to), attribute(&from), "{name}");
    }
}

#[test]
fn hard_links_stay_together_and_links_are_not_followed() {
    let (_folder, source, target) = copied(|source| {
        std::fs::create_dir(source.join("folder")).unwrap();
        File::create(source.join("one")).unwrap();
        std::fs::hard_link(source.join("one"), source.join("folder/two")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", source.join("link")).unwrap();
        std::fs::hard_link(source.join("link"), source.join("folder/same-link")).unwrap();
    });
    let inode = |name: &str| target.join(name).symlink_metadata().unwrap().ino();
    assert_eq!(inode("one"), inode("folder/two"));
    assert_eq!(inode("link"), inode("folder/same-link"));
    assert_ne!(inode("one"), source.join("one").metadata().unwrap().ino());
    assert_eq!(std::fs::read_link(target.join("link")).unwrap(), Path::new("/etc/hostname"));
}

#[test]
fn owners_devices_and_capabilities_are_copied() {
    if !is_root() {
        return;
    }
    // A capability set as the kernel writes it: version 2, effective, CAP_NET_RAW permitted.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (_folder, source, target) = copied(|source| {
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(
            CWD,
            source.join("null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o600),
            null,
        )
        .unwrap();
        rustix::fs::mknodat(CWD, source.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        rustix::fs::mknodat(CWD, source.join("socket"), FileType::Socket, Mode::from_raw_mode(0o750), 0)
            .unwrap();
        std::os::unix::fs::symlink("nowhere", source.join("link")).unwrap();
        File::create(source.join("file")).unwrap();
        for (number, name) in ["null", "fifo", "socket", "link", "file", ""].into_iter().enumerate() {
            let owner = u32::try_from(number).unwrap() + 100;
            std::os::unix::fs::lchown(source.join(name), Some(owner), Some(owner + 1)).unwrap();
        }
        let flags = XattrFlags::empty();
        rustix::fs::lsetxattr(source.join("file"), "security.capability", &capability, flags).unwrap();
    });
    for name in ["null", "fifo", "socket", "link", "file", ""] {
        let (seen, expected) =
            (target.join(name).symlink_metadata().unwrap(), source.join(name).symlink_metadata().unwrap());
        assert_eq!((seen.uid(), seen.gid()), (expected.uid(), expected.gid()), "{name}");
        assert_eq!((seen.mode(), seen.rdev()), (expected.mode(), expected.rdev()), "{name}");
    }
    let mut value = [0; 100];
    let length = rustix::fs::lgetxattr(target.join("file"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
}

#[test]
fn a_missing_source_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = copy_tree(&folder.path().join("missing"), folder.path()).unwrap_err();
    assert_eq!(error.kind(), corten_types::ErrorKind::NotFound);
    assert!(error.message().contains("missing"));
}

#[test]
fn a_tree_deeper_than_any_path_may_be_is_copied_with_its_hard_links() {
    const DEPTH: usize = 3000;
    let open = |path: &Path| rustix::fs::open(path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let below = |from: &OwnedFd| rustix::fs::openat(from, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    let (_folder, _source, target) = copied(|source| {
        File::create(source.join("first")).unwrap().write_all_at(b"deep", 0).unwrap();
        let top = open(source);
        let mut here = open(source);
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = below(&here);
        }
        rustix::fs::linkat(&top, "first", &here, "second", AtFlags::empty()).unwrap();
        rustix::fs::linkat(&top, "first", &here, "third", AtFlags::empty()).unwrap();
    });
    let mut here = open(&target);
    for _ in 0..DEPTH {
        here = below(&here);
    }
    let inode = |folder: &OwnedFd, name: &str| {
        rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).unwrap().st_ino
    };
    assert_eq!(inode(&here, "second"), inode(&open(&target), "first"));
    assert_eq!(inode(&here, "third"), inode(&here, "second"));
    assert_eq!(std::fs::read(target.join("first")).unwrap(), b"deep");
}
