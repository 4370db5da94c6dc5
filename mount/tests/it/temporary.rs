use corten_mount::{TemporaryMount, cleanup_temporary_mounts, mount, read_only_mounts, without_volatile};

use crate::support::{count_below, described, folder_with_file, in_own_namespace};

#[test]
fn a_temporary_mount_goes_with_its_value() {
    in_own_namespace(|root| {
        let source = folder_with_file(root, "source");
        let folder = root.join("tmpmounts");
        let mounted = TemporaryMount::new(&[described("bind", &source, &["rbind", "rw"])], &folder).unwrap();
        let path = mounted.path().to_owned();
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("containerd-mount"));
        assert!(path.join("source").exists());
        drop(mounted);
        assert!(!path.exists() && source.join("source").exists());
        let mounted = TemporaryMount::new(&[], &folder).unwrap();
        mounted.close().unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    });
}

#[test]
fn a_failed_temporary_mount_leaves_nothing() {
    in_own_namespace(|root| {
        let folder = root.join("tmpmounts");
        let missing = described("bind", root.join("missing"), &["rbind", "rw"]);
        TemporaryMount::new(&[missing], &folder).unwrap_err();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        assert_eq!(count_below(&folder), 0);
    });
}

#[test]
fn a_read_only_look_at_an_overlay_shows_its_upper_folder() {
    in_own_namespace(|root| {
        let lower = folder_with_file(root, "lower");
        let upper = folder_with_file(root, "upper:1");
        let work = folder_with_file(root, "work");
        let mounts = [described(
            "overlay",
            "overlay",
            &[
                &format!("workdir={}", work.display()),
                &format!("upperdir={}", upper.display()),
                &format!("lowerdir={}", lower.display()),
                "volatile",
            ],
        )];
        let folder = root.join("tmpmounts");
        let mounted = TemporaryMount::read_only(&mounts, &folder).unwrap();
        assert!(mounted.path().join("lower").exists() && mounted.path().join("upper:1").exists());
        assert!(std::fs::File::create(mounted.path().join("new")).is_err());
        mounted.close().unwrap();
        assert!(!work.join("work/incompat").exists(), "the mount was volatile");
    });
}

#[test]
fn what_a_crash_left_is_cleaned_and_nothing_else() {
    in_own_namespace(|root| {
        let source = folder_with_file(root, "source");
        let folder = root.join("tmpmounts");
        let left = TemporaryMount::new(&[described("bind", &source, &["rbind", "rw"])], &folder).unwrap();
        std::mem::forget(left);
        let foreign = folder.join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        mount(&described("tmpfs", "tmpfs", &[]), &foreign).unwrap();
        let full = folder_with_file(&folder, "containerd-mount-with-a-file");
        assert!(cleanup_temporary_mounts(&folder).is_err(), "a folder that is not empty is worth telling");
        assert!(source.join("source").exists() && full.join("containerd-mount-with-a-file").exists());
        assert_eq!(count_below(&folder), 1, "only the foreign mount is left");
        std::fs::remove_dir_all(&full).unwrap();
        cleanup_temporary_mounts(&folder).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        cleanup_temporary_mounts(&root.join("missing")).unwrap();
    });
}

#[test]
fn read_only_mounts_have_neither_rw_nor_an_upper_folder() {
    let mounts = read_only_mounts(&[described("bind", "/a", &["rw", "rbind"])]);
    assert_eq!(mounts[0].options, ["rbind", "ro"]);
    let overlay = described("overlay", "overlay", &["workdir=/w", "upperdir=/u", "lowerdir=/l", "index=off"]);
    assert_eq!(read_only_mounts(&[overlay])[0].options, ["lowerdir=/u:/l", "index=off"]);
    let volatile = described("overlay", "overlay", &["volatile", "lowerdir=/a:/b", "fsync=volatile"]);
    assert_eq!(without_volatile(&[volatile])[0].options, ["lowerdir=/a:/b"]);
}
