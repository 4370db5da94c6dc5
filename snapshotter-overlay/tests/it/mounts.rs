use corten_snapshotter::{SnapshotKeeper, SnapshotWriter};
use corten_snapshotter_overlay::Options;
use corten_types::{Labels, Mount};

use crate::support::{layer, open};

fn bind(source: String, access: &str) -> Vec<Mount> {
    let options = vec![access.to_owned(), "rbind".to_owned()];
    vec![Mount { kind: "bind".to_owned(), source, target: String::new(), options }]
}

/// What every overlay gets at the end on this kernel.
fn last_options() -> Vec<String> {
    let knows_index = std::path::Path::new("/sys/module/overlay/parameters/index").exists();
    knows_index.then(|| "index=off".to_owned()).into_iter().collect()
}

#[tokio::test]
async fn snapshots_without_overlay_are_bind_mounts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |id: u64| folder.path().join(format!("snapshots/{id}/fs")).display().to_string();
    let snapshots =
        open(folder.path(), Options { mount_options: vec!["volatile".into()], ..Options::default() });
    assert_eq!(snapshots.prepare("active", "", Labels::new()).await.unwrap(), bind(path(1), "rw"));
    assert_eq!(snapshots.view("look", "", Labels::new()).await.unwrap(), bind(path(2), "ro"));
    snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
    assert_eq!(snapshots.view("at-layer", "layer", Labels::new()).await.unwrap(), bind(path(1), "ro"));
}

#[tokio::test]
async fn options_of_overlays_are_in_containerds_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("snapshots").join(name).display().to_string();
    let options = Options { mount_options: vec!["metacopy=on".into()], ..Options::default() };
    let snapshots = open(folder.path(), options);
    layer(&snapshots, "one", "").await;
    layer(&snapshots, "two", "one").await;
    let lower = format!("lowerdir={}:{}", path("2/fs"), path("1/fs"));

    let mounts = snapshots.prepare("active", "two", Labels::new()).await.unwrap();
    let mut expected =
        vec![format!("workdir={}", path("3/work")), format!("upperdir={}", path("3/fs")), lower.clone()];
    expected.push("metacopy=on".to_owned());
    expected.extend(last_options());
    assert_eq!(mounts[0].options, expected);
    assert_eq!((mounts[0].kind.as_str(), mounts[0].source.as_str()), ("overlay", "overlay"));

    let mounts = snapshots.view("look", "two", Labels::new()).await.unwrap();
    let mut expected = vec![lower, "metacopy=on".to_owned()];
    expected.extend(last_options());
    assert_eq!(mounts[0].options, expected, "a view of several layers has neither an upper folder nor ro");
    assert_eq!(snapshots.mounts("look").await.unwrap(), mounts);
}

#[tokio::test]
async fn a_configured_index_is_not_overruled() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { mount_options: vec!["index=on".into()], ..Options::default() };
    let snapshots = open(folder.path(), options);
    layer(&snapshots, "one", "").await;
    let mounts = snapshots.prepare("active", "one", Labels::new()).await.unwrap();
    assert_eq!(mounts[0].options.last().unwrap(), "index=on");
}

#[tokio::test]
async fn capabilities_tell_what_clients_may_rely_on() {
    let folder = tempfile::tempdir().unwrap();
    let names = |slow_chown| {
        let snapshots = open(folder.path(), Options { slow_chown, ..Options::default() });
        snapshots.capabilities()
    };
    assert!(names(false).contains(&"only-remap-ids".to_owned()));
    let slow = names(true);
    assert!(!slow.contains(&"only-remap-ids".to_owned()) && slow.contains(&"rebase".to_owned()), "{slow:?}");
    assert!(crate::support::folders(folder.path()).is_empty(), "a probe was left");
}
