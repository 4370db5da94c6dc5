use std::fs::File;
use std::io::Write;

use corten_snapshotter::disk_usage;
use corten_types::ErrorKind;

#[test]
fn blocks_and_inodes_are_counted_and_hard_links_once() {
    let folder = tempfile::tempdir().unwrap();
    let empty = disk_usage(folder.path()).unwrap();
    assert_eq!(empty.inodes, 1);
    std::fs::create_dir(folder.path().join("deeper")).unwrap();
    let mut file = File::create(folder.path().join("deeper/file")).unwrap();
    file.write_all(&[1; 100_000]).unwrap();
    file.sync_all().unwrap();
    std::fs::hard_link(folder.path().join("deeper/file"), folder.path().join("again")).unwrap();
    std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
    let usage = disk_usage(folder.path()).unwrap();
    assert_eq!(usage.inodes, 4);
    assert!((100_000..200_000).contains(&usage.size_bytes), "{usage:?}");
    File::create(folder.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
    assert!(disk_usage(folder.path()).unwrap().size_bytes < 200_000, "blocks count, not lengths");
}

#[test]
fn a_missing_folder_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(disk_usage(&folder.path().join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_tree_deeper_than_any_path_may_be_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let directory = rustix::fs::OFlags::DIRECTORY;
    let mut here = rustix::fs::open(folder.path(), directory, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, "d", directory, rustix::fs::Mode::empty()).unwrap();
    }
    assert_eq!(disk_usage(folder.path()).unwrap().inodes, 3001);
    // The standard library would need a descriptor for each level.
    corten_disk::Disk::new().remove_dir_all(&folder.path().join("d")).unwrap();
}
