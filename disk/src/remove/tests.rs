use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};

use super::remove_tree;

/// Makes folders in one another, and a file in the deepest.
fn dig(path: &Path, depth: usize) {
    std::fs::create_dir(path).unwrap();
    let mut here = open(path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = openat(&here, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&here, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
}

#[test]
fn a_tree_deeper_than_descriptors_and_paths_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep");
    dig(&path, 20_000);
    remove_tree(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn wide_trees_go_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, outside) = (folder.path().join("tree"), folder.path().join("outside"));
    dig(&outside, 1);
    std::fs::create_dir(&path).unwrap();
    for number in 0..500 {
        std::fs::create_dir(path.join(format!("folder-{number}"))).unwrap();
        File::create(path.join(format!("folder-{number}/file"))).unwrap();
    }
    std::os::unix::fs::symlink(&outside, path.join("link")).unwrap();
    remove_tree(&path).unwrap();
    assert!(!path.exists() && outside.join("d/file").exists());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    remove_tree(&link).unwrap();
    assert!(link.symlink_metadata().is_err() && outside.join("d/file").exists());
}

#[test]
fn what_is_no_folder_or_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    assert_eq!(remove_tree(&file).unwrap_err().kind(), ErrorKind::NotFound);
    File::create(&file).unwrap();
    assert_eq!(remove_tree(&file).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(file.exists());
}
