//! Rows of containerd's behaviour that no other module asks for.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    process::Command,
};

use corten_diff::{
    archive::{EntryKind, Header},
    unpack::{UnpackOptions, unpack},
};
use corten_types::{Error, ErrorKind};

use crate::{
    hostile::fix_checksum,
    layer::{Layer, header},
    root_or_skip,
    tree::names,
    unpack::into,
};

/// An archive of one entry, after its header was changed.
fn patched(header: &Header, patch: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut archive = Layer::new().entry(header, b"").build();
    patch(&mut archive[..512]);
    fix_checksum(&mut archive[..512]);
    archive
}

#[test]
fn b07_device_numbers_of_more_than_32_bits_are_refused() {
    root_or_skip!();
    let device = Header { device: (1, 3), ..header(EntryKind::CharacterDevice, "null") };
    for (field, name) in [(329, "major"), (337, "minor")] {
        // Base 256: the largest number that 33 bits hold.
        let archive = patched(&device, |block| {
            block[field..field + 8].copy_from_slice(&[0x80, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        });
        let root = tempfile::tempdir().unwrap();
        let error = into(root.path(), &archive).unwrap_err();
        assert!(error.to_string().contains("32 bits"), "{name}: {error}");
        assert_eq!(names(root.path()), Vec::<String>::new());
    }
}

const CHILD: &str = "CORTEN_TEST_USER_NAMESPACE_CHILD";

/// In a namespace of users devices cannot be made, and numbers that it does not map cannot be given.
#[test]
fn b07_b11_a_user_namespace_leaves_devices_out_and_asks_for_larger_ranges() {
    root_or_skip!();
    let test = "rows::b07_b11_a_user_namespace_leaves_devices_out_and_asks_for_larger_ranges";
    if std::env::var_os(CHILD).is_some() {
        return unpack_in_user_namespace();
    }
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

fn unpack_in_user_namespace() {
    let root = tempfile::tempdir().unwrap();
    let layer = Layer::new()
        .entry(&Header { device: (1, 3), ..header(EntryKind::CharacterDevice, "null") }, b"")
        .entry(&Header { device: (7, 0), ..header(EntryKind::BlockDevice, "disk") }, b"")
        .entry(&header(EntryKind::Fifo, "pipe"), b"")
        .file("file", b"x");
    let unpacked = into(root.path(), &layer.build()).unwrap();
    assert_eq!((unpacked.entries, unpacked.skipped_entries), (4, 2));
    assert_eq!(names(root.path()), ["file", "pipe"]);
    assert!(fs::symlink_metadata(root.path().join("pipe")).unwrap().file_type().is_fifo());
    let foreign = Header { uid: 1000, ..header(EntryKind::File, "foreign") };
    let error = into(root.path(), &Layer::new().entry(&foreign, b"").build()).unwrap_err();
    assert!(error.to_string().contains("/etc/subuid"), "{error}");
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    unpack(&Layer::new().entry(&foreign, b"").build()[..], root.path(), &options).unwrap();
}

#[test]
fn b10_types_that_layers_do_not_have_are_refused() {
    for flag in *b"7ADMNVXZ" {
        let archive = patched(&header(EntryKind::File, "odd"), |block| block[156] = flag);
        let root = tempfile::tempdir().unwrap();
        let error: Error = into(root.path(), &archive).unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", char::from(flag));
        assert!(error.to_string().contains("its type is not one that layers have"), "{error}");
        assert_eq!(names(root.path()), Vec::<String>::new());
    }
}

#[test]
fn b12_attributes_of_namespaces_that_do_not_exist_are_left_out() {
    root_or_skip!();
    let xattrs = vec![(b"nonsense.x".to_vec(), b"1".to_vec()), (b"user.x".to_vec(), b"2".to_vec())];
    let file = Header { xattrs, ..header(EntryKind::File, "f") };
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let unpacked = into(root.path(), &Layer::new().entry(&file, b"").build()).unwrap();
    assert_eq!(unpacked.skipped_xattrs, 1);
    assert_eq!(xattr::get(root.path().join("f"), "user.x").unwrap(), Some(b"2".to_vec()));
}

/// An archive of a file and its times, by GNU tar, which writes both into an extended header.
fn with_times(accessed: &str, modified: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "touch f; touch -m -d @{modified} f; touch -a -d @{accessed} f; \
         exec tar --format=pax --pax-option=delete=ctime --atime-preserve=system -cf - f"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn b14_the_last_access_is_never_before_the_modification_and_both_are_bounded() {
    root_or_skip!();
    for (accessed, modified, expected) in [
        ("2000000000.5", "1000000000.25", ((2_000_000_000, 500_000_000), (1_000_000_000, 250_000_000))),
        ("1000000000.5", "1500000000.25", ((1_500_000_000, 250_000_000), (1_500_000_000, 250_000_000))),
        ("1000000000", "-1", ((1_000_000_000, 0), (0, 0))),
        ("1000000000", "9300000000", ((0, 0), (0, 0))),
    ] {
        let root = tempfile::tempdir_in("/var/tmp").unwrap();
        into(root.path(), &with_times(accessed, modified)).unwrap();
        let data = fs::symlink_metadata(root.path().join("f")).unwrap();
        let times = ((data.atime(), data.atime_nsec()), (data.mtime(), data.mtime_nsec()));
        assert_eq!(times, expected, "{accessed} {modified}");
    }
}
