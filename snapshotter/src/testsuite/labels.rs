//! Labels, times, lists.

use std::time::SystemTime;

use corten_filter::Filters;
use corten_types::{ErrorKind, Labels, Result, UpdateMask};

use super::world::{World, assert_refused, kept};
use crate::{Kind, SnapshotInfo};

fn update(world: &World, key: &str, labels: &Labels, paths: &[&str]) -> Result<SnapshotInfo> {
    let mask = UpdateMask::of(paths.iter().copied());
    world.call(|snapshots| Box::pin(async move { snapshots.update(key, labels, &mask).await }))
}

/// A snapshot of every kind, with and without a parent.
fn one_of_each(world: &World) -> [(&'static str, Kind, &'static str); 6] {
    world.layer("c1", "", |_| ());
    world.layer("c2", "c1", |_| ());
    world.prepare("a1", "c2");
    world.prepare("a2", "");
    world.view("v1", "c2");
    world.view("v2", "");
    [
        ("c1", Kind::Committed, ""),
        ("c2", Kind::Committed, "c1"),
        ("a1", Kind::Active, "c2"),
        ("a2", Kind::Active, ""),
        ("v1", Kind::View, "c2"),
        ("v2", Kind::View, ""),
    ]
}

pub(super) fn labels_are_told_and_replaced_by_a_commit(world: &World) {
    let labels = [("containerd.io/snapshot/one", "1"), ("containerd.io/snapshot/two", "2")];
    world.prepare_labelled("active", "", &labels);
    assert_eq!(world.stat("active").expect("it was made").labels, kept(&labels));
    world.commit_labelled("layer", "active", &[("containerd.io/snapshot/three", "3")]);
    let told = world.stat("layer").expect("it was committed").labels;
    assert_eq!(told, kept(&[("containerd.io/snapshot/three", "3")]));
}

/// Row S17: it means something to block devices only.
pub(super) fn a_size_limit_is_a_hint_and_no_error(world: &World) {
    let labels = [("containerd.io/snapshot/max-size", "1048576")];
    let mounts = world.prepare_labelled("active", "", &labels);
    assert_eq!(world.stat("active").expect("it was made").labels, kept(&labels));
    world.mounted(&mounts, |root| super::tree::write(root, "file", "small"));
    world.commit("layer", "active");
}

pub(super) fn labels_are_replaced_without_a_mask(world: &World) {
    for (key, kind, parent) in one_of_each(world) {
        for paths in [&[][..], &["labels"]] {
            let labels = kept(&[("containerd.io/snapshot/number", &paths.len().to_string())]);
            let told = update(world, key, &labels, paths).expect("labels can be changed");
            assert_eq!((told.name.as_str(), told.kind, told.parent.as_str()), (key, kind, parent));
            assert_eq!(told.labels, labels);
            assert_eq!(world.stat(key).expect("it is there"), told);
        }
    }
}

pub(super) fn a_mask_changes_and_removes_single_labels(world: &World) {
    let labels = [
        ("containerd.io/snapshot/l.1", "v1"),
        ("containerd.io/snapshot/l2", "v2"),
        ("containerd.io/snapshot/l3", "v3"),
    ];
    world.prepare_labelled("active", "", &labels);
    let change: Labels =
        [("containerd.io/snapshot/l.1", "new"), ("containerd.io/snapshot/l4", "not in the mask")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    let paths = ["labels.containerd.io/snapshot/l.1", "labels.containerd.io/snapshot/l2"];
    let told = update(world, "active", &change, &paths).expect("labels can be changed");
    let expected = kept(&[("containerd.io/snapshot/l.1", "new"), ("containerd.io/snapshot/l3", "v3")]);
    assert_eq!(told.labels, expected);
    assert_eq!(world.stat("active").expect("it is there").labels, expected);
}

pub(super) fn another_path_in_a_mask_is_refused(world: &World) {
    world.prepare("active", "");
    let labels = kept(&[("containerd.io/snapshot/new", "1")]);
    for paths in [&["parent"][..], &["labels", "kind"], &["name"]] {
        assert_refused(update(world, "active", &labels, paths), ErrorKind::InvalidArgument);
    }
    assert_eq!(world.stat("active").expect("it is there").labels, kept(&[]));
}

pub(super) fn times_tell_of_making_and_changing(world: &World) {
    let before = SystemTime::now();
    for (key, _, _) in one_of_each(world) {
        let made = world.stat(key).expect("it is there");
        assert_eq!(made.created_at, made.updated_at);
        assert!(before <= made.created_at && made.created_at <= SystemTime::now());
        let change = SystemTime::now();
        let told = update(world, key, &kept(&[]), &[]).expect("labels can be changed");
        assert_eq!(told.created_at, made.created_at);
        assert!(change <= told.updated_at && told.updated_at <= SystemTime::now());
    }
    let active = world.stat("a2").expect("it is there");
    world.commit("c3", "a2");
    let committed = world.stat("c3").expect("it is there");
    assert!(committed.created_at >= active.created_at, "a commit makes a new snapshot");
}

pub(super) fn lists_are_in_the_order_of_names_and_come_in_pages(world: &World) {
    let mut expected: Vec<String> = (0..25).map(|number| format!("snapshot-{number}")).collect();
    for name in &expected {
        world.view(name, "");
    }
    expected.sort();
    assert_eq!(world.names(&[], None, 100), expected);
    let mut collected: Vec<String> = Vec::new();
    loop {
        let page = world.names(&[], collected.last().map(String::as_str), 7);
        assert!(page.len() <= 7);
        if page.is_empty() {
            break;
        }
        collected.extend(page);
    }
    assert_eq!(collected, expected);
    let filtered = world.names(&["name~=^snapshot-1"], Some("snapshot-11"), 3);
    assert_eq!(filtered, ["snapshot-12", "snapshot-13", "snapshot-14"]);
    assert!(world.names(&[], Some("snapshot-9"), 10).is_empty());
}

pub(super) fn filters_choose_by_kind_name_parent_and_labels(world: &World) {
    world.prepare("a-np", "");
    world.layer("p", "", |_| ());
    world.prepare("a", "p");
    world.view("v", "p");
    world.prepare_labelled("p-wl-active", "", &[]);
    world.commit_labelled("p-wl", "p-wl-active", &[("containerd.io/snapshot/l", "1")]);
    world.prepare_labelled("a-wl", "p-wl", &[("containerd.io/snapshot/l", "2")]);
    world.prepare_labelled("a-np-wl", "", &[("containerd.io/snapshot/l", "2")]);
    let label = "labels.\"containerd.io/snapshot/l\"";
    let checks: [(&[&str], &[&str]); 11] = [
        (&[], &["a", "a-np", "a-np-wl", "a-wl", "p", "p-wl", "v"]),
        (&["kind==active"], &["a", "a-np", "a-np-wl", "a-wl"]),
        (&["kind==view"], &["v"]),
        (&["kind==committed"], &["p", "p-wl"]),
        (&["name==p", "name==a-np-wl"], &["a-np-wl", "p"]),
        (&["parent==p"], &["a", "v"]),
        (&["parent!=\"\""], &["a", "a-wl", "v"]),
        (&["parent==p,kind==view"], &["v"]),
        (&["parent==missing"], &[]),
        (&[label], &["a-np-wl", "a-wl", "p-wl"]),
        (&[&format!("{label}==2")], &["a-np-wl", "a-wl"]),
    ];
    for (filters, expected) in checks {
        assert_eq!(world.names(filters, None, 100), expected, "{filters:?}");
    }
}

pub(super) fn lists_and_stat_tell_the_same(world: &World) {
    let made = one_of_each(world);
    let all = Filters::all();
    let listed = world.call(|snapshots| snapshots.list(&all, None, 100)).expect("snapshots can be listed");
    assert_eq!(listed.len(), made.len());
    for info in listed {
        assert_eq!(world.stat(&info.name).expect("it was listed"), info);
        assert!(
            made.iter()
                .any(|(name, kind, parent)| (*name, *kind, *parent) == (&info.name, info.kind, &info.parent))
        );
    }
}
