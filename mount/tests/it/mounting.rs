use std::path::Path;
use std::process::Command;

use corten_mount::{UnmountFlags, mount, mount_all, mounts_below, unmount};
use corten_types::{ErrorKind, Mount};

use crate::support::{count_below, described, folder_with_file, in_own_namespace, write};

#[test]
fn a_read_only_bind_mount_refuses_writes() {
    in_own_namespace(|root| {
        let source = folder_with_file(root, "source");
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        mount(&described("bind", &source, &["rbind", "ro", "nosuid"]), &target).unwrap();
        assert!(target.join("source").exists());
        let refused = std::fs::File::create(target.join("new")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let entry = mounts_below(&target).unwrap().remove(0);
        assert!(entry.options.contains("ro") && entry.options.contains("nosuid"), "{}", entry.options);
        write(&source.join("new"), "the source itself stays writable");
    });
}

#[test]
fn propagation_words_change_the_mount() {
    in_own_namespace(|root| {
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        mount(&described("tmpfs", "tmpfs", &["rshared"]), &target).unwrap();
        let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let line = text.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
        assert!(line.contains(" shared:"), "{line}");
    });
}

#[test]
fn data_reaches_the_filesystem() {
    in_own_namespace(|root| {
        mount(&described("tmpfs", "tmpfs", &["size=64k", "noexec"]), root).unwrap();
        let entry = mounts_below(root).unwrap().pop().unwrap();
        assert!(entry.super_options.contains("size=64k") && entry.options.contains("noexec"));
    });
}

#[test]
fn mounts_go_to_folders_below_the_target_and_links_do_not_lead_outside() {
    in_own_namespace(|root| {
        let source = folder_with_file(root, "source");
        let outside = root.join("outside");
        let target = root.join("target");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::create_dir_all(target.join(outside.strip_prefix("/").unwrap())).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("link")).unwrap();
        let below = Mount { target: "/../link".to_owned(), ..described("bind", &source, &["bind", "ro"]) };
        mount_all(std::slice::from_ref(&below), &target).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "the link led outside");
        let inside = target.join(outside.strip_prefix("/").unwrap());
        assert!(inside.join("source").exists());
        assert!(std::fs::File::create(inside.join("new")).is_err(), "the remount reached another mount");
        corten_mount::unmount_mounts(&[below], &target, UnmountFlags::NONE).unwrap();
        assert!(!inside.join("source").exists());
    });
}

#[test]
fn when_one_mount_fails_the_others_are_undone() {
    in_own_namespace(|root| {
        let target = folder_with_file(root, "target");
        let source = folder_with_file(root, "source");
        let mounts = [
            described("bind", &source, &["rbind", "rw"]),
            described("bind", root.join("missing"), &["rbind", "rw"]),
        ];
        let error = mount_all(&mounts, &target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("missing"), "{error:?}");
        assert_eq!(count_below(&target), 0);
    });
}

#[test]
fn what_only_a_mount_manager_understands_is_refused() {
    in_own_namespace(|root| {
        let error = mount(&described("format/overlay", "overlay", &[]), root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        let error =
            mount(&described("bind", root, &["bind", "X-containerd.mkdir.path=/a"]), root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    });
}

/// An overlay of `layer_count` layers below `root` whose paths are `depth` long names longer than needed.
fn overlay_of(root: &Path, layer_count: usize, padding: &str) -> (Mount, std::path::PathBuf) {
    let snapshots = root.join(padding).join("snapshots");
    for number in 1..=layer_count {
        let folder = snapshots.join(number.to_string()).join("fs");
        std::fs::create_dir_all(&folder).unwrap();
        write(&folder.join(format!("file{number}")), "");
        write(&folder.join("nearest"), &number.to_string());
    }
    let own = snapshots.join("0");
    std::fs::create_dir_all(own.join("fs")).unwrap();
    std::fs::create_dir_all(own.join("work")).unwrap();
    let lower: Vec<String> = (1..=layer_count)
        .rev()
        .map(|number| snapshots.join(format!("{number}/fs")).display().to_string())
        .collect();
    let options = [
        format!("workdir={}", own.join("work").display()),
        format!("upperdir={}", own.join("fs").display()),
        format!("lowerdir={}", lower.join(":")),
        "index=off".to_owned(),
    ];
    let target = root.join("merged");
    std::fs::create_dir_all(&target).unwrap();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    (described("overlay", "overlay", &options), target)
}

fn assert_whole(target: &Path, layer_count: usize) {
    assert_eq!(std::fs::read_to_string(target.join("nearest")).unwrap(), layer_count.to_string());
    for number in 1..=layer_count {
        assert!(target.join(format!("file{number}")).exists(), "layer {number} is missing");
    }
    write(&target.join("written"), "the upper folder takes writes");
}

#[test]
fn an_overlay_of_many_layers_is_mounted_relative_to_their_folder() {
    in_own_namespace(|root| {
        let before = std::env::current_dir().unwrap();
        let (description, target) = overlay_of(root, 128, "a-rather-long-name-for-the-root");
        mount(&description, &target).unwrap();
        assert_whole(&target, 128);
        assert_eq!(std::env::current_dir().unwrap(), before, "the process moved");
        unmount(&target, UnmountFlags::NONE).unwrap();
    });
}

#[test]
fn an_overlay_whose_relative_layers_pass_a_page_is_mounted_piecewise() {
    in_own_namespace(|root| {
        let layer_count = 500;
        let (mut description, target) = overlay_of(root, layer_count, "p");
        description.options.push("metacopy=off".to_owned());
        match mount(&description, &target) {
            Ok(()) => assert_whole(&target, layer_count),
            // Before Linux 6.8 a page is the limit, and the error says so.
            Err(error) => assert!(error.message().contains("too long"), "{error:?}"),
        }
    });
}

#[test]
fn options_that_cannot_be_shortened_are_refused_with_a_sentence() {
    in_own_namespace(|root| {
        let long = format!("context={}", "x".repeat(rustix::param::page_size()));
        let error = mount(&described("tmpfs", "tmpfs", &[&long]), root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("mount options is too long"), "{error:?}");
        assert!(error.message().len() < 2000);
    });
}

#[test]
fn a_file_is_mounted_through_a_loop_device_that_frees_itself() {
    in_own_namespace(|root| {
        if !Path::new("/dev/loop-control").exists() {
            println!("skipped: no loop devices");
            return;
        }
        let image = root.join("image");
        std::fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            println!("skipped: no mkfs.ext4");
            return;
        }
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        mount(&described("ext4", &image, &["loop", "ro"]), &target).unwrap();
        assert!(target.join("lost+found").exists());
        let device = mounts_below(&target).unwrap().remove(0).source;
        assert!(device.starts_with("/dev"), "{}", device.display());
        unmount(&target, UnmountFlags::NONE).unwrap();
        let backing = Path::new("/sys/block").join(device.file_name().unwrap()).join("loop/backing_file");
        let held = std::fs::read_to_string(backing).unwrap_or_default();
        assert!(!held.contains(image.to_str().unwrap()), "the device is still attached to {held}");
    });
}

/// A kernel that cannot map ids on tmpfs (before 6.3) has to say so, and nothing is mounted.
fn kernel_is_too_old(mounted: &corten_types::Result<()>, target: &Path) -> bool {
    let Err(error) = mounted else { return false };
    assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error:?}");
    assert_eq!(count_below(target), 0);
    println!("skipped: {error:?}");
    true
}

#[test]
fn a_bind_mount_shows_mapped_owners() {
    in_own_namespace(|root| {
        let source = folder_with_file(root, "source");
        let target = root.join("target");
        std::fs::create_dir(&target).unwrap();
        let options = ["rbind", "rw", "uidmap=0:1000:10", "gidmap=0:2000:10"];
        let mounted = mount(&described("bind", &source, &options), &target);
        if kernel_is_too_old(&mounted, &target) {
            return;
        }
        let seen = rustix::fs::stat(target.join("source")).unwrap();
        assert_eq!((seen.st_uid, seen.st_gid), (1000, 2000));
    });
}

#[test]
fn an_overlay_shows_mapped_owners_of_its_lower_folders() {
    in_own_namespace(|root| {
        let (mut description, target) = overlay_of(root, 3, "p");
        description.options.push("uidmap=0:1000:10".to_owned());
        description.options.push("gidmap=0:2000:10".to_owned());
        let mounted = mount(&description, &target);
        if kernel_is_too_old(&mounted, &target) {
            return;
        }
        let seen = rustix::fs::stat(target.join("nearest")).unwrap();
        assert_eq!((seen.st_uid, seen.st_gid), (1000, 2000));
        // Other processes have such mounts for a moment too, and this namespace began as a copy of theirs.
        let ours = format!("ovl-idmapped-{}-", std::process::id());
        let left = mounts_below(&std::env::temp_dir()).unwrap();
        assert!(!left.iter().any(|entry| entry.mount_point.to_string_lossy().contains(&ours)));
    });
}

#[test]
fn a_missing_helper_is_named() {
    in_own_namespace(|root| {
        let error = mount(&described("fuse3.nothing-of-that-name", "source", &[]), root).unwrap_err();
        assert!(error.message().contains("mount.fuse3"), "{error:?}");
    });
}

#[test]
fn a_device_that_is_kept_stays_until_it_is_released() {
    in_own_namespace(|root| {
        if !Path::new("/dev/loop-control").exists() {
            println!("skipped: no loop devices");
            return;
        }
        let image = root.join("image");
        std::fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
        let options = corten_mount::LoopOptions { read_only: true, ..Default::default() };
        let device = corten_mount::LoopDevice::attach(&image, options).unwrap();
        let path = Path::new(device.path()).to_owned();
        device.keep().unwrap();
        let backing = || corten_mount::loop_backing_file(&path);
        let file_name = |path: std::path::PathBuf| path.file_name().map(|name| name.to_owned());
        assert_eq!(backing().and_then(file_name).as_deref(), Some("image".as_ref()));
        let read_only = Path::new("/sys/block").join(path.file_name().unwrap()).join("ro");
        assert_eq!(std::fs::read_to_string(read_only).unwrap().trim(), "1");
        corten_mount::release_loop_device(&path).unwrap();
        assert_ne!(backing().and_then(file_name).as_deref(), Some("image".as_ref()));
        corten_mount::release_loop_device(Path::new("/dev/loop-that-is-none")).unwrap();
    });
}
