use super::*;

fn targets(key: &str, value: &str) -> Vec<(Kind, String)> {
    let labels = Labels::from([(key.to_owned(), value.to_owned())]);
    let mut found = Vec::new();
    references(&"ns".into(), &labels, &mut found);
    found.into_iter().map(|node| (node.kind, node.id.to_string())).collect()
}

#[test]
fn content_references_end_or_go_on_with_a_dot_or_a_slash() {
    for key in ["gc.ref.content", "gc.ref.content.0", "gc.ref.content/config", "gc.ref.content."] {
        let found = targets(&format!("containerd.io/{key}"), "sha256:x");
        assert_eq!(found, [(Kind::Content, "sha256:x".to_owned())], "{key}");
    }
    assert_eq!(targets("containerd.io/gc.ref.contentX", "sha256:x"), []);
    assert_eq!(targets("example.io/gc.ref.content", "sha256:x"), []);
}

#[test]
fn snapshot_references_name_the_snapshotter_up_to_a_slash() {
    let expected = [(Kind::Snapshot, "overlayfs/key/with/slashes".to_owned())];
    assert_eq!(targets("containerd.io/gc.ref.snapshot.overlayfs", "key/with/slashes"), expected);
    assert_eq!(targets("containerd.io/gc.ref.snapshot.overlayfs/a/b", "key/with/slashes"), expected);
    assert_eq!(targets("containerd.io/gc.ref.snapshot", "key"), []);
}

#[test]
fn images_are_referred_to_by_name_and_containers_only_backwards() {
    assert_eq!(targets("containerd.io/gc.ref.image.base", "x:1"), [(Kind::Image, "x:1".to_owned())]);
    assert_eq!(targets("containerd.io/gc.ref.container", "c"), []);
    let labels = Labels::from([
        ("containerd.io/gc.bref.container.a".to_owned(), "c".to_owned()),
        ("containerd.io/gc.bref.containers".to_owned(), "c".to_owned()),
        ("containerd.io/gc.bref.snapshot.native".to_owned(), "k".to_owned()),
    ]);
    let parents: Vec<_> = back_references(&"ns".into(), &labels).into_iter().map(|node| node.kind).collect();
    assert_eq!(parents, [Kind::Container, Kind::Snapshot]);
}

#[test]
fn only_known_kinds_of_collected_things_are_referred_to() {
    for key in ["gc.ref.mount", "gc.ref.mount.rootfs", "gc.ref.mount/0"] {
        let found = targets(&format!("containerd.io/{key}"), "m");
        assert_eq!(found, [(Kind::Resource, "mount/m".to_owned())], "{key}");
    }
    for key in ["gc.ref.mounts", "gc.ref.stream", "gc.ref.mountX.0"] {
        assert_eq!(targets(&format!("containerd.io/{key}"), "m"), [], "{key}");
    }
}

#[test]
fn a_malformed_expiry_counts_as_none() {
    let labels = |value: &str| Labels::from([(EXPIRE.to_owned(), value.to_owned())]);
    assert!(expires_at(&labels("soon")).is_none());
    assert!(expires_at(&labels("2026-11-22T05:52:43Z")).is_some());
}
