//! What depends on the kernel, its namespaces and the filesystem below.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use corten_mount::TemporaryMount;
use corten_snapshotter::{SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_snapshotter_overlay::{Options, OverlaySnapshotter};
use corten_types::{ErrorKind, Labels, Mount};

use crate::support::{layer, needs_root, open, upper_of};

/// Set where a test runs itself again.
const INSIDE: &str = "CORTEN_TEST_IN_A_USER_NAMESPACE";

fn mapping(text: &str) -> Labels {
    ["uidmapping", "gidmapping"]
        .map(|label| (format!("containerd.io/snapshot/{label}"), text.to_owned()))
        .into()
}

/// O06, O10 and O13: options and capabilities in a user namespace.
#[tokio::test]
async fn in_a_user_namespace_overlays_get_userxattr_and_ids_are_not_mapped() {
    if std::env::var_os(INSIDE).is_some() {
        return in_a_user_namespace().await;
    }
    if needs_root() {
        return;
    }
    let name = "kernel::in_a_user_namespace_overlays_get_userxattr_and_ids_are_not_mapped";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

async fn in_a_user_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = open(folder.path(), Options::default());
    layer(&snapshots, "one", "").await;
    layer(&snapshots, "two", "one").await;
    let mounts = snapshots.prepare("active", "two", mapping("0:0:1")).await.unwrap();
    let options = &mounts[0].options;
    let is_tmpfs = rustix::fs::statfs(folder.path()).unwrap().f_type == 0x0102_1994;
    assert_eq!(options.iter().any(|option| option == "userxattr"), !is_tmpfs, "{options:?}");
    assert!(options.iter().all(|option| !option.starts_with("uidmap=") && !option.starts_with("gidmap=")));
    let index = options.iter().position(|option| option == "index=off");
    let userxattr = options.iter().position(|option| option == "userxattr");
    assert!(index.is_none() || userxattr < index, "{options:?}");
    let capabilities = snapshots.capabilities();
    assert!(!capabilities.iter().any(|name| name == "remap-ids" || name == "rebase"), "{capabilities:?}");

    let configured = Options { mount_options: vec!["userxattr".to_owned()], ..Options::default() };
    let other = tempfile::tempdir().unwrap();
    let again = open(other.path(), configured);
    layer(&again, "one", "").await;
    let options = again.prepare("active", "one", Labels::new()).await.unwrap().remove(0).options;
    assert_eq!(options.iter().filter(|option| *option == "userxattr").count(), 1, "{options:?}");

    let mounted = TemporaryMount::new(&mounts, folder.path()).unwrap();
    assert!(mounted.path().join("one").exists() && mounted.path().join("two").exists());
    std::fs::remove_file(mounted.path().join("one")).unwrap();
    assert!(!mounted.path().join("one").exists());
    mounted.close().unwrap();
}

/// Mounts a new ext4 with these features at `target`.
fn ext4(folder: &Path, features: &str) -> TemporaryMount {
    let image = folder.join("image");
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let output = Command::new("/sbin/mkfs.ext4").args(["-q", "-O", features]).arg(&image).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mount = Mount {
        kind: "ext4".to_owned(),
        source: image.display().to_string(),
        target: String::new(),
        options: vec!["loop".to_owned()],
    };
    TemporaryMount::new(&[mount], folder).unwrap()
}

/// O14.
#[tokio::test]
async fn a_filesystem_whose_listings_do_not_tell_types_is_refused() {
    if needs_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mounted = ext4(folder.path(), "^filetype");
    let refused = OverlaySnapshotter::open(&mounted.path().join("root"), Options::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.message().contains("d_type"), "{refused:?}");
    mounted.close().unwrap();
}

/// O12: `volatile` is for the container's mount; a look at the same snapshot must not leave its mark.
#[tokio::test]
async fn a_volatile_overlay_can_be_looked_at_and_then_mounted() {
    if needs_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let snapshots =
        open(folder.path(), Options { mount_options: vec!["volatile".into()], ..Options::default() });
    layer(&snapshots, "one", "").await;
    let mounts = snapshots.prepare("active", "one", Labels::new()).await.unwrap();
    for name in ["first", "second"] {
        let mounted = TemporaryMount::new(&mounts, folder.path()).unwrap();
        File::create(mounted.path().join(name)).unwrap();
        mounted.close().unwrap();
    }
    assert!(upper_of(&mounts).join("second").exists());
    let target = folder.path().join("target");
    std::fs::create_dir(&target).unwrap();
    corten_mount::mount_all(&mounts, &target).unwrap();
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounted.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
    assert!(line.contains("volatile"), "{line}");
    corten_mount::unmount_recursive(&target, corten_mount::UnmountFlags::NONE).unwrap();
}

/// O08: what is removed at once is gone with the answer; what is not leaves its folder to the next cleanup.
#[tokio::test]
async fn a_snapshot_that_is_removed_is_gone_at_once_whatever_becomes_of_its_folder() {
    for sync_remove in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = open(folder.path(), Options { sync_remove, ..Options::default() });
        layer(&snapshots, "one", "").await;
        snapshots.remove("one").await.unwrap();
        assert_eq!(snapshots.stat("one").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(crate::support::folders(folder.path()).is_empty(), sync_remove);
        snapshots.cleanup().await.unwrap();
        assert!(crate::support::folders(folder.path()).is_empty());
    }
}
