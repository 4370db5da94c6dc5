//! On filesystems that can share bytes between files, and on one that cannot: each an image on a loop device.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use corten_snapshotter::SnapshotWriter;
use corten_snapshotter_native::{NativeSnapshotter, Options};
use corten_types::{Labels, Mount};

/// What mkfs.xfs needs at the least, as a file with holes.
const IMAGE_BYTES: u64 = 400 << 20;

const FILE_BYTES: usize = 32 << 20;

/// More than the folders and rows of a snapshot take.
const SLACK_BYTES: u64 = 8 << 20;

/// Whether a test that needs root has to be passed over.
fn needs_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    assert!(std::env::var_os("CORTEN_TEST_ROOT").is_none(), "CORTEN_TEST_ROOT is set, but this is not root");
    println!("skipped: needs root");
    true
}

/// Runs `test` in a new filesystem of type `kind`, in a mount namespace of its own.
fn on_filesystem(kind: &'static str, test: fn(&Path)) {
    if needs_root() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let image = folder.path().join("image");
    File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    let made = Command::new(format!("/sbin/mkfs.{kind}")).arg("-q").arg(&image).output();
    match made {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => return println!("skipped: no mkfs.{kind}: {error}"),
    }
    let target = folder.path().join("mounted");
    std::fs::create_dir(&target).unwrap();
    let thread = std::thread::spawn(move || {
        let flags = rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS;
        // SAFETY: only this thread, and those that it starts, get a namespace and a working folder of their own, and it
        // ends with the test.
        unsafe { rustix::thread::unshare_unsafe(flags) }.unwrap();
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let mount = Mount {
            kind: kind.to_owned(),
            source: image.display().to_string(),
            target: String::new(),
            options: vec!["loop".to_owned()],
        };
        corten_mount::mount(&mount, &target).unwrap();
        test(&target);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn used_bytes(folder: &Path) -> u64 {
    rustix::fs::syncfs(File::open(folder).unwrap()).unwrap();
    let space = corten_disk::space(folder).unwrap();
    space.total_bytes - space.free_bytes
}

/// Copies a snapshot with a large file and tells how many bytes that took. The copy is independent of the original.
fn copy_takes(folder: &Path) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let snapshots = NativeSnapshotter::open(&folder.join("root"), Options::default()).unwrap();
        let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
        let original = Path::new(&mounts[0].source).join("file");
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|index| (index * 31 % 251) as u8).collect();
        File::create(&original).unwrap().write_all(&bytes).unwrap();
        snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
        let before = used_bytes(folder);
        let mounts = snapshots.prepare("copy", "layer", Labels::new()).await.unwrap();
        let took = used_bytes(folder).saturating_sub(before);
        let copied = Path::new(&mounts[0].source).join("file");
        assert!(std::fs::read(&copied).unwrap() == bytes);
        File::options().write(true).open(&copied).unwrap().write_all(b"changed").unwrap();
        assert!(std::fs::read(&original).unwrap() == bytes, "a change of the copy reached the original");
        snapshots.close().await.unwrap();
        took
    })
}

fn bytes_are_shared(folder: &Path) {
    let took = copy_takes(folder);
    assert!(took < SLACK_BYTES, "the copy took {took} bytes");
}

#[test]
fn a_copy_shares_its_bytes_on_btrfs() {
    on_filesystem("btrfs", bytes_are_shared);
}

#[test]
fn a_copy_shares_its_bytes_on_xfs() {
    on_filesystem("xfs", bytes_are_shared);
}

#[test]
fn a_copy_has_its_own_bytes_where_they_cannot_be_shared() {
    on_filesystem("ext4", |folder| {
        let took = copy_takes(folder);
        assert!(took >= FILE_BYTES as u64, "the copy took {took} bytes");
    });
}
