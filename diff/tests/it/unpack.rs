//! What each kind of entry becomes.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use corten_diff::{
    archive::{EntryKind, Header},
    unpack::{UnpackError, UnpackOptions, Unpacked, unpack},
};
use corten_types::{Error, ErrorKind};

use crate::{
    layer::{Layer, header},
    root_or_skip,
    tree::{describe, names},
};

pub(crate) fn into(root: &Path, archive: &[u8]) -> Result<Unpacked, UnpackError> {
    unpack(archive, root, &UnpackOptions::default())
}

fn unpacked(archive: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    into(root.path(), archive).unwrap();
    root
}

fn times(path: &Path) -> (i64, i64, i64, i64) {
    let data = fs::symlink_metadata(path).unwrap();
    (data.atime(), data.atime_nsec(), data.mtime(), data.mtime_nsec())
}

#[test]
fn files_get_contents_mode_owner_and_times() {
    root_or_skip!();
    let file = Header { mode: 0o4751, uid: 1000, gid: 3_000_000_000, ..header(EntryKind::File, "bin/su") };
    let root = unpacked(&Layer::new().entry(&file, b"contents").build());
    let path = root.path().join("bin/su");
    let data = fs::metadata(&path).unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o4751, 1000, 3_000_000_000));
    // Reading may change the time of the last access.
    assert_eq!(times(&path), (1_000_000_000, 0, 1_000_000_000, 0));
    assert_eq!(fs::read(&path).unwrap(), b"contents");
    let parent = fs::metadata(root.path().join("bin")).unwrap();
    assert_eq!((parent.mode() & 0o7777, parent.uid()), (0o755, 0));
}

#[test]
fn owners_stay_this_process_if_so_wanted() {
    let root = tempfile::tempdir().unwrap();
    let archive = Layer::new().entry(&Header { uid: 4711, ..header(EntryKind::File, "f") }, b"").build();
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    unpack(&archive[..], root.path(), &options).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(fs::metadata(root.path().join("f")).unwrap().uid(), uid);
}

#[test]
fn times_of_directories_are_set_when_they_are_full() {
    root_or_skip!();
    let root =
        unpacked(&Layer::new().directory("d/").directory("d/e/").file("d/e/f", b"").file("d/g", b"").build());
    for path in ["d", "d/e"] {
        assert_eq!(times(&root.path().join(path)), (1_000_000_000, 0, 1_000_000_000, 0), "{path}");
    }
}

#[test]
fn times_before_1970_become_1970() {
    root_or_skip!();
    let old = Header { modified_seconds: -5, ..header(EntryKind::File, "old") };
    let root = unpacked(&Layer::new().entry(&old, b"").build());
    assert_eq!(times(&root.path().join("old")), (0, 0, 0, 0));
}

#[test]
fn links_devices_and_pipes_are_made() {
    root_or_skip!();
    let device = Header { device: (1, 3), mode: 0o666, ..header(EntryKind::CharacterDevice, "null") };
    let disk = Header { device: (4000, 300_000), ..header(EntryKind::BlockDevice, "disk") };
    let pipe = Header { mode: 0o600, uid: 5, ..header(EntryKind::Fifo, "pipe") };
    let link = Header { link: b"/anywhere/else".to_vec(), uid: 6, ..header(EntryKind::Symlink, "link") };
    let root = unpacked(
        &Layer::new().entry(&device, b"").entry(&disk, b"").entry(&pipe, b"").entry(&link, b"").build(),
    );
    let data = |name: &str| fs::symlink_metadata(root.path().join(name)).unwrap();
    assert!(data("null").file_type().is_char_device());
    assert_eq!((data("null").rdev(), data("null").mode() & 0o777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(data("disk").file_type().is_block_device());
    assert_eq!(data("disk").rdev(), rustix::fs::makedev(4000, 300_000));
    assert!(data("pipe").file_type().is_fifo());
    assert_eq!((data("pipe").uid(), data("pipe").mode() & 0o777), (5, 0o600));
    assert_eq!(data("link").uid(), 6);
    assert_eq!(fs::read_link(root.path().join("link")).unwrap(), Path::new("/anywhere/else"));
    assert_eq!(times(&root.path().join("link")).2, 1_000_000_000);
}

#[test]
fn hard_links_share_an_inode_and_may_name_a_symlink() {
    root_or_skip!();
    let root = unpacked(
        &Layer::new()
            .file("a/file", b"x")
            .symlink("a/link", "/etc/passwd")
            .hard_link("b/file", "./a/file")
            .hard_link("b/absolute", "/a/file")
            .hard_link("b/link", "a/link")
            .symlink("way", "a")
            .hard_link("b/through", "way/file")
            .build(),
    );
    let data = |name: &str| fs::symlink_metadata(root.path().join(name)).unwrap();
    for name in ["b/file", "b/absolute", "b/through"] {
        assert_eq!(data(name).ino(), data("a/file").ino(), "{name}");
    }
    assert!(data("b/link").is_symlink());
    assert_eq!(data("b/link").ino(), data("a/link").ino());
}

#[test]
fn a_hard_link_with_the_same_owner_keeps_capabilities() {
    root_or_skip!();
    let capability =
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let xattrs = vec![(b"security.capability".to_vec(), capability.clone())];
    let file = Header { xattrs, ..header(EntryKind::File, "ping") };
    let root = unpacked(&Layer::new().entry(&file, b"x").hard_link("ping2", "ping").build());
    let kept = xattr::get(root.path().join("ping2"), "security.capability").unwrap();
    assert_eq!(kept, Some(capability));
}

#[test]
fn capabilities_are_set_after_the_owner() {
    root_or_skip!();
    let capability =
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let xattrs = vec![(b"security.capability".to_vec(), capability.clone())];
    let file = Header { xattrs, uid: 7, mode: 0o2755, ..header(EntryKind::File, "ping") };
    let root = unpacked(&Layer::new().entry(&file, b"x").build());
    let path = root.path().join("ping");
    assert_eq!(xattr::get(&path, "security.capability").unwrap(), Some(capability));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o2755);
}

#[test]
fn attributes_that_cannot_or_must_not_be_set_are_left_out() {
    root_or_skip!();
    let xattrs = vec![
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.binary".to_vec(), b"\0\xff".to_vec()),
    ];
    let file = Header { xattrs: xattrs.clone(), ..header(EntryKind::File, "f") };
    let link = Header { xattrs, link: b"f".to_vec(), ..header(EntryKind::Symlink, "l") };
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let unpacked = into(root.path(), &Layer::new().entry(&file, b"").entry(&link, b"").build()).unwrap();
    // `trusted` twice, and `user` on a link.
    assert_eq!(unpacked.skipped_xattrs, 3);
    assert_eq!(xattr::get(root.path().join("f"), "trusted.overlay.opaque").unwrap(), None);
    assert_eq!(xattr::get(root.path().join("f"), "user.binary").unwrap(), Some(b"\0\xff".to_vec()));
}

#[test]
fn an_attribute_that_no_namespace_has_is_an_error_or_unsupported() {
    root_or_skip!();
    let xattrs = vec![(Vec::new(), b"value".to_vec())];
    let file = Header { xattrs, ..header(EntryKind::File, "f") };
    let root = tempfile::tempdir().unwrap();
    let error = into(root.path(), &Layer::new().entry(&file, b"").build()).unwrap_err();
    assert!(error.to_string().contains("extended attribute of /f"), "{error}");
}

#[test]
fn a_directory_is_merged_with_one_that_exists_and_everything_else_is_replaced() {
    root_or_skip!();
    let root = tempfile::tempdir().unwrap();
    into(
        root.path(),
        &Layer::new()
            .file("merged/old", b"")
            .file("to-file/deep/old", b"")
            .file("to-directory", b"")
            .symlink("link-to-directory", "merged")
            .file("to-link", b"old")
            .build(),
    )
    .unwrap();
    let merged = Header { mode: 0o700, uid: 9, ..header(EntryKind::Directory, "merged/") };
    into(
        root.path(),
        &Layer::new()
            .entry(&merged, b"")
            .file("to-file", b"new")
            .directory("to-directory/")
            .directory("link-to-directory/")
            .symlink("to-link", "merged/old")
            .build(),
    )
    .unwrap();
    assert_eq!(
        names(root.path()),
        ["link-to-directory", "merged", "merged/old", "to-directory", "to-file", "to-link"]
    );
    let data = |name: &str| fs::symlink_metadata(root.path().join(name)).unwrap();
    assert_eq!((data("merged").mode() & 0o777, data("merged").uid()), (0o700, 9));
    assert!(data("to-file").is_file() && data("to-directory").is_dir() && data("link-to-directory").is_dir());
    assert!(data("to-link").is_symlink());
}

#[test]
fn a_parent_that_is_no_directory_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let archive = Layer::new().file("f", b"").file("f/g", b"").build();
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    let error = unpack(&archive[..], root.path(), &options).unwrap_err();
    let UnpackError::System { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::NOTDIR.raw_os_error()));
}

#[test]
fn entries_for_the_root_are_ignored() {
    root_or_skip!();
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut layer = Layer::new();
    for name in ["./", "/", "..", "a/..", "../..", "./a/../../.."] {
        layer = layer.entry(&Header { mode: 0o777, uid: 3, ..header(EntryKind::Directory, name) }, b"");
    }
    into(root.path(), &layer.build()).unwrap();
    assert_eq!(names(root.path()), Vec::<String>::new());
    let data = fs::metadata(root.path()).unwrap();
    assert_eq!((data.mode() & 0o777, data.uid()), (0o711, 0));
}

#[test]
fn what_a_dangling_link_points_to_is_made() {
    root_or_skip!();
    let root = unpacked(&Layer::new().symlink("lib", "usr/lib").file("lib/a/b", b"x").build());
    assert_eq!(names(root.path()), ["lib", "usr", "usr/lib", "usr/lib/a", "usr/lib/a/b"]);
}

#[test]
fn sparse_files_keep_their_holes() {
    root_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    let output = std::process::Command::new("tar")
        .current_dir(folder.path())
        .args(["--format=pax", "--sparse", "-cf", "-", "sparse"])
        .output()
        .unwrap();
    let root = unpacked(&output.stdout);
    let data = fs::metadata(root.path().join("sparse")).unwrap();
    assert_eq!(data.len(), 64 << 20);
    assert!(data.blocks() * 512 < 1 << 20);
}

#[test]
fn missing_parents_look_as_they_do_below() {
    root_or_skip!();
    let lower = tempfile::tempdir_in("/var/tmp").unwrap();
    let upper = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = lower.path().join("usr/share");
    fs::create_dir_all(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2750)).unwrap();
    xattr::set(&path, "user.kept", b"yes").unwrap();
    xattr::set(&path, "trusted.dropped", b"no").unwrap();
    let file = fs::File::open(&path).unwrap();
    file.set_times(
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(77)),
    )
    .unwrap();
    let nearer = tempfile::tempdir_in("/var/tmp").unwrap();
    let options = UnpackOptions {
        whiteouts: corten_diff::unpack::Whiteouts::Overlay { user_xattrs: false },
        lower_layers: vec![nearer.path().into(), lower.path().into()],
        ..UnpackOptions::default()
    };
    let archive = Layer::new().file("usr/share/doc/readme", b"x").build();
    unpack(&archive[..], upper.path(), &options).unwrap();
    let copy = upper.path().join("usr/share");
    let data = fs::metadata(&copy).unwrap();
    assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777, data.mtime()), (12, 34, 0o2750, 77));
    assert_eq!(xattr::get(&copy, "user.kept").unwrap(), Some(b"yes".to_vec()));
    assert_eq!(xattr::get(&copy, "trusted.dropped").unwrap(), None);
    let plain = fs::metadata(upper.path().join("usr/share/doc")).unwrap();
    assert_eq!((plain.uid(), plain.mode() & 0o7777), (0, 0o755));
}

#[test]
fn a_whiteout_below_hides_the_attributes_further_down() {
    root_or_skip!();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [upper, nearer, lower] = &folders;
    fs::create_dir_all(lower.path().join("d/e")).unwrap();
    fs::set_permissions(lower.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("nowhere", nearer.path().join("unrelated")).unwrap();
    let whiteout = CString::new(nearer.path().join("d").to_str().unwrap()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &*whiteout,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    let options = UnpackOptions {
        whiteouts: corten_diff::unpack::Whiteouts::Overlay { user_xattrs: false },
        lower_layers: vec![nearer.path().into(), lower.path().into()],
        ..UnpackOptions::default()
    };
    unpack(&Layer::new().file("d/e/f", b"x").build()[..], upper.path(), &options).unwrap();
    assert_eq!(fs::metadata(upper.path().join("d")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn sizes_are_added_up() {
    root_or_skip!();
    let root = tempfile::tempdir().unwrap();
    let archive = Layer::new().file("a", b"123").file("b", b"4567").directory("c/").build();
    let unpacked = into(root.path(), &archive).unwrap();
    assert_eq!((unpacked.entries, unpacked.size_bytes), (3, 7));
}

#[test]
fn bytes_after_the_end_stay_in_the_reader() {
    let root = tempfile::tempdir().unwrap();
    let mut archive = Layer::new().build();
    archive.extend_from_slice(b"more");
    let mut reader = &archive[..];
    unpack(&mut reader, root.path(), &UnpackOptions::default()).unwrap();
    assert_eq!(reader, b"more");
}

#[test]
fn a_flush_that_was_asked_for_is_done() {
    root_or_skip!();
    let root = tempfile::tempdir().unwrap();
    let options = UnpackOptions { sync: true, write_back_bytes: 1000, ..UnpackOptions::default() };
    let mut layer = Layer::new();
    for number in 0..50 {
        layer = layer.file(format!("f{number}"), &[1; 500]);
    }
    unpack(&layer.build()[..], root.path(), &options).unwrap();
    assert_eq!(names(root.path()).len(), 50);
}

#[test]
fn classes_of_errors_fit_their_cause() {
    let root = tempfile::tempdir().unwrap();
    let kind = |archive: &[u8]| Error::from(into(root.path(), archive).unwrap_err()).kind();
    assert_eq!(kind(&[7; 512]), ErrorKind::InvalidArgument);
    assert_eq!(kind(&[7; 500]), ErrorKind::DataLoss);
    assert_eq!(kind(&Layer::new().hard_link("a", "missing").build()), ErrorKind::FailedPrecondition);
    assert_eq!(kind(&Layer::new().file(".wh..", b"").build()), ErrorKind::InvalidArgument);
    let missing = root.path().join("missing");
    assert_eq!(
        Error::from(into(&missing, &Layer::new().build()).unwrap_err()).kind(),
        ErrorKind::FailedPrecondition
    );
}

#[test]
fn threads_for_small_files_change_nothing() {
    root_or_skip!();
    let mut layer = Layer::new().directory("d");
    for number in 0..200_u32 {
        let name = format!("d/{number}");
        let mode = if number % 9 == 0 { 0o4711 } else { 0o644 };
        let file = Header { mode, uid: number % 3, ..header(EntryKind::File, &name) };
        let contents = vec![u8::try_from(number).unwrap(); 300 * number as usize];
        let file = Header { size_bytes: contents.len() as u64, ..file };
        layer = layer.entry(&file, &contents);
        if number % 7 == 0 {
            layer = layer.hard_link(format!("d/link-{number}"), &name);
        }
        if number % 11 == 0 {
            // What was just handed to a thread is replaced.
            layer = layer.file(&name, b"another");
        }
    }
    let archive = layer.build();
    let tree = |file_threads| {
        let root = tempfile::tempdir().unwrap();
        let options = UnpackOptions { file_threads, ..UnpackOptions::default() };
        let unpacked = unpack(&archive[..], root.path(), &options).unwrap();
        (unpacked, describe(root.path()))
    };
    let without = tree(0);
    assert!(without.1.len() > 200);
    for threads in [1, 3, 100] {
        assert!(tree(threads) == without, "{threads} threads");
    }
}
