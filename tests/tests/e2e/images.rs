//! Images: import, pull, push, list, check, tag, export, remove.

use corten_tests::{Registry, eventually};

use crate::fixture::Fixture;

#[test]
fn an_image_is_imported_listed_checked_tagged_exported_and_removed() {
    let Some(fixture) = Fixture::new() else { return };
    let (ctr, image) = (&fixture.ctr, &fixture.image);
    let listed = ctr.ok(&["images", "ls"]).unwrap();
    assert!(listed.contains(&image.name) && listed.contains(&image.manifest), "{listed}");
    let checked = ctr.ok(&["images", "check"]).unwrap();
    assert!(checked.contains("complete (3/3)") && checked.contains("true"), "{checked}");

    ctr.ok(&["images", "tag", &image.name, "localhost/other:2"]).unwrap();
    let refused = ctr.refused(&["images", "tag", &image.name, "localhost/other:2"]).unwrap();
    assert!(refused.contains("already exists"), "{refused}");
    ctr.ok(&["images", "label", &image.name, "colour=red"]).unwrap();
    assert_eq!(ctr.ok(&["images", "ls", "-q", "labels.colour==red"]).unwrap().trim(), image.name);

    let archive = fixture.daemon.path("export.tar");
    ctr.ok(&["images", "export", archive.to_str().unwrap(), "localhost/other:2"]).unwrap();
    ctr.ok(&["images", "rm", "--sync", &image.name, "localhost/other:2"]).unwrap();
    assert_eq!(ctr.ok(&["content", "ls", "-q"]).unwrap(), "", "a synchronous removal leaves no content");
    assert_eq!(ctr.ok(&["snapshots", "ls"]).unwrap().lines().count(), 1, "nor snapshots");

    ctr.ok(&["images", "import", archive.to_str().unwrap()]).unwrap();
    let listed = ctr.ok(&["images", "ls", "-q"]).unwrap();
    assert_eq!(listed.trim(), "localhost/other:2");
    fixture.finish();
}

#[test]
fn an_image_is_pushed_to_a_registry_and_pulled_back() {
    let Some(fixture) = Fixture::new() else { return };
    let registry = Registry::start().unwrap();
    let (ctr, name) = (&fixture.ctr, registry.image("busybox:1"));
    ctr.ok(&["images", "push", "--plain-http", &name, &fixture.image.name]).unwrap();
    ctr.ok(&["images", "rm", "--sync", &fixture.image.name]).unwrap();
    ctr.ok(&["images", "pull", "--plain-http", &name]).unwrap();
    let checked = ctr.ok(&["images", "check", &format!("name=={name}")]).unwrap();
    assert!(checked.contains("complete (3/3)") && checked.contains("true"), "{checked}");
    let labels = ctr.ok(&["content", "ls"]).unwrap();
    assert!(labels.contains("containerd.io/distribution.source.127.0.0.1"), "{labels}");

    let id = fixture.daemon.container("pulled");
    let run = ctr.run(&["run", "--rm", &name, &id, "cat", "/etc/motd"]).unwrap();
    assert_eq!((run.code, run.stdout.as_str()), (0, "made of busybox\n"), "{}", run.stderr);
    fixture.finish();
}

#[test]
fn the_same_image_in_a_second_namespace_shares_its_bytes() {
    let Some(fixture) = Fixture::new() else { return };
    let registry = Registry::start().unwrap();
    let name = registry.image("busybox:1");
    fixture.ctr.ok(&["images", "push", "--plain-http", &name, &fixture.image.name]).unwrap();
    let second = format!("{}b", fixture.daemon.namespace());
    let other = fixture.ctr.in_namespace(&second);
    other.ok(&["images", "pull", "--plain-http", &name]).unwrap();
    assert!(other.ok(&["content", "ls", "-q"]).unwrap().contains(&fixture.image.layers[0]));

    fixture.ctr.ok(&["images", "rm", "--sync", &fixture.image.name]).unwrap();
    assert!(other.ok(&["content", "get", &fixture.image.manifest]).unwrap().contains("schemaVersion"));
    other.ok(&["images", "rm", "--sync", &name]).unwrap();
    let blobs = fixture.daemon.root().join("io.containerd.content.v1.content/blobs/sha256");
    eventually("the last blob to go", || {
        std::fs::read_dir(&blobs).is_ok_and(|mut entries| entries.next().is_none()).then_some(())
    })
    .unwrap();
    other.ok(&["namespaces", "rm", &second]).unwrap();
    fixture.finish();
}

#[test]
fn what_an_image_kept_goes_soon_after_it_without_being_asked() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.ctr.ok(&["images", "rm", &fixture.image.name]).unwrap();
    eventually("content and snapshots to be collected", || {
        let content = fixture.ctr.ok(&["content", "ls", "-q"]).unwrap();
        let snapshots = fixture.ctr.ok(&["snapshots", "ls"]).unwrap();
        (content.is_empty() && snapshots.lines().count() == 1).then_some(())
    })
    .unwrap();
    let snapshots = fixture.daemon.root().join("io.containerd.snapshotter.v1.overlayfs/snapshots");
    eventually("the folders of the snapshots to go", || {
        std::fs::read_dir(&snapshots).is_ok_and(|mut entries| entries.next().is_none()).then_some(())
    })
    .unwrap();
    fixture.finish();
}
