//! What is refused, and that nothing changes then.

use corten_types::{ErrorKind, Labels, UpdateMask};

use super::tree::write;
use super::world::{World, assert_refused};

pub(super) fn what_is_missing_is_not_found(world: &World) {
    assert_refused(world.stat("missing"), ErrorKind::NotFound);
    assert_refused(world.mounts("missing"), ErrorKind::NotFound);
    assert_refused(world.remove("missing"), ErrorKind::NotFound);
    assert_refused(world.try_commit("name", "missing", None), ErrorKind::NotFound);
    assert_refused(world.call(|snapshots| snapshots.usage("missing")), ErrorKind::NotFound);
    let mask = UpdateMask::replace_all();
    let labels = Labels::new();
    assert_refused(world.call(|snapshots| snapshots.update("missing", &labels, &mask)), ErrorKind::NotFound);
    assert_refused(world.stat("name"), ErrorKind::NotFound);
}

pub(super) fn a_taken_key_is_refused(world: &World) {
    world.layer("base", "", |_| ());
    world.prepare("active", "base");
    world.view("look", "base");
    for taken in ["active", "look", "base"] {
        for parent in ["", "base"] {
            assert_refused(world.try_prepare(taken, parent), ErrorKind::AlreadyExists);
            assert_refused(world.try_view(taken, parent), ErrorKind::AlreadyExists);
        }
    }
    assert_eq!(world.names(&[], None, 100), ["active", "base", "look"]);
    assert_eq!(world.stat("active").expect("it is there").parent, "base");
}

pub(super) fn a_missing_parent_is_refused(world: &World) {
    assert_refused(world.try_prepare("key", "missing"), ErrorKind::NotFound);
    assert_refused(world.try_view("key", "missing"), ErrorKind::NotFound);
    assert_refused(world.stat("key"), ErrorKind::NotFound);
}

pub(super) fn a_parent_that_is_not_committed_is_refused(world: &World) {
    world.prepare("active", "");
    world.view("look", "");
    for parent in ["active", "look"] {
        assert_refused(world.try_prepare("key", parent), ErrorKind::InvalidArgument);
        assert_refused(world.try_view("key", parent), ErrorKind::InvalidArgument);
    }
    assert_refused(world.stat("key"), ErrorKind::NotFound);
}

pub(super) fn a_taken_name_is_refused_and_the_active_one_stays(world: &World) {
    world.layer("taken", "", |_| ());
    let mounts = world.prepare("active", "");
    world.mounted(&mounts, |root| write(root, "file", ""));
    assert_refused(world.try_commit("taken", "active", None), ErrorKind::AlreadyExists);
    assert_eq!(world.mounts("active").expect("it is still active"), mounts);
    world.commit("free", "active");
    let mounts = world.view("look", "free");
    world.mounted(&mounts, |root| assert!(root.join("file").exists()));
}

pub(super) fn a_committed_snapshot_is_not_committed_again(world: &World) {
    world.layer("layer", "", |_| ());
    assert_refused(world.try_commit("name", "layer", None), ErrorKind::FailedPrecondition);
    assert_refused(world.stat("name"), ErrorKind::NotFound);
}

pub(super) fn a_committed_snapshot_has_no_mounts(world: &World) {
    world.layer("layer", "", |_| ());
    assert_refused(world.mounts("layer"), ErrorKind::FailedPrecondition);
}

pub(super) fn another_parent_at_commit_is_refused(world: &World) {
    world.layer("one", "", |_| ());
    world.layer("other", "", |_| ());
    world.prepare("active", "one");
    assert_refused(world.try_commit("name", "active", Some("other")), ErrorKind::InvalidArgument);
    assert_eq!(world.stat("active").expect("it is still active").parent, "one");
}

pub(super) fn a_missing_parent_at_commit_is_refused(world: &World) {
    world.prepare("active", "");
    assert_refused(world.try_commit("name", "active", Some("missing")), ErrorKind::NotFound);
    assert_eq!(world.stat("active").expect("it is still active").parent, "");
}
