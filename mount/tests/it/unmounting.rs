use std::path::Path;

use corten_mount::{UnmountFlags, mount, unmount, unmount_recursive};
use corten_types::ErrorKind;

use crate::support::{count_below, described, in_own_namespace};

#[test]
fn a_stack_of_mounts_goes_as_a_whole() {
    in_own_namespace(|root| {
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        for _ in 0..3 {
            mount(&described("tmpfs", "tmpfs", &[]), &target).unwrap();
        }
        assert_eq!(count_below(&target), 3);
        unmount(&target, UnmountFlags::NONE).unwrap();
        assert_eq!(count_below(&target), 0);
    });
}

#[test]
fn unmounting_what_is_not_mounted_is_fine() {
    in_own_namespace(|root| {
        std::fs::create_dir(root.join("folder")).unwrap();
        unmount(&root.join("folder"), UnmountFlags::NONE).unwrap();
        unmount(&root.join("missing"), UnmountFlags::NONE).unwrap();
        unmount_recursive(&root.join("missing"), UnmountFlags::NONE).unwrap();
        unmount(Path::new(""), UnmountFlags::NONE).unwrap();
    });
}

#[test]
fn mounts_below_a_folder_go_deepest_first() {
    in_own_namespace(|root| {
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        let mut folder = target.clone();
        for name in ["a", "b with blank", "c"] {
            mount(&described("tmpfs", "tmpfs", &[]), &folder).unwrap();
            folder = folder.join(name);
            std::fs::create_dir(&folder).unwrap();
        }
        assert_eq!(count_below(&target), 3);
        unmount_recursive(&target, UnmountFlags::NONE).unwrap();
        assert_eq!(count_below(&target), 0);
    });
}

#[test]
fn a_busy_mount_is_reported_and_can_be_detached() {
    in_own_namespace(|root| {
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        mount(&described("tmpfs", "tmpfs", &[]), &target).unwrap();
        let user = std::fs::File::create(target.join("open")).unwrap();
        let error = unmount(&target, UnmountFlags::NONE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(count_below(&target), 1);
        unmount(&target, UnmountFlags::DETACH).unwrap();
        assert_eq!(count_below(&target), 0);
        drop(user);
    });
}
