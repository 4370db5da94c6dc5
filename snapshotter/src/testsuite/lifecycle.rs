//! From making to removing.

use corten_types::ErrorKind;

use super::tree::{assert_same, folder, remove, write};
use super::world::{World, assert_refused, kept};
use crate::Kind;

pub(super) fn a_snapshot_is_prepared_written_committed_and_stood_on(world: &World) {
    let flat = world.folder();
    let first = |root: &std::path::Path| {
        write(root, "foo", "foo\n");
        folder(root, "a", 0o755);
        folder(root, "a/b", 0o755);
        folder(root, "a/b/c", 0o755);
    };
    let second = |root: &std::path::Path| {
        write(root, "bar", "bar\n");
        write(root, "foo", "bar\n");
        remove(root, "a/b");
    };
    let mounts = world.prepare("preparing", "");
    world.mounted(&mounts, first);
    first(&flat);
    world.commit("committed", "preparing");
    let info = world.stat("committed").expect("it was committed");
    assert_eq!((info.kind, info.parent.as_str()), (Kind::Committed, ""));
    assert_refused(world.stat("preparing"), ErrorKind::NotFound);

    let mounts = world.prepare("next", "committed");
    world.mounted(&mounts, |root| {
        assert_same(&flat, root);
        second(root);
    });
    second(&flat);
    let info = world.stat("next").expect("it was prepared");
    assert_eq!((info.kind, info.parent.as_str()), (Kind::Active, "committed"));
    world.commit("committed-next", "next");

    let mounts = world.view("look", "committed-next");
    world.mounted(&mounts, |root| assert_same(&flat, root));
    world.remove("look").expect("a view can be removed");
    assert_refused(world.remove("committed"), ErrorKind::FailedPrecondition);
    world.remove("committed-next").expect("nothing stands on it");
    world.remove("committed").expect("nothing stands on it any more");
    assert!(world.names(&[], None, 100).is_empty());
}

pub(super) fn an_active_snapshot_is_told_by_its_key(world: &World) {
    world.prepare("key", "");
    let info = world.stat("key").expect("it was prepared");
    assert_eq!(
        (info.name.as_str(), info.kind, info.parent.as_str(), info.labels),
        ("key", Kind::Active, "", kept(&[]))
    );
}

pub(super) fn a_commit_keeps_the_parent_and_frees_the_key(world: &World) {
    world.layer("a", "", |root| write(root, "foo", "a"));
    world.layer("b", "a", |root| write(root, "foo", "b"));
    world.layer("c", "b", |root| {
        assert_eq!(std::fs::read_to_string(root.join("foo")).ok().as_deref(), Some("b"))
    });
    let parent_of = |name: &str| world.stat(name).expect("it was committed").parent;
    assert_eq!([parent_of("c"), parent_of("b"), parent_of("a")], ["b", "a", ""]);
    world.prepare("a-active", "c");
}

pub(super) fn a_removed_key_can_be_used_again(world: &World) {
    world.prepare("active", "");
    world.commit("committed", "active");
    world.prepare("key", "committed");
    world.remove("key").expect("an active snapshot can be removed");
    world.view("key", "committed");
    world.remove("key").expect("a view can be removed");
    let mounts = world.prepare("key", "");
    world.mounted(&mounts, |root| {
        assert_eq!(std::fs::read_dir(root).expect("it can be listed").count(), 0);
        write(root, "new", "");
    });
    world.remove("committed").expect("nothing stands on it");
    world.commit("committed", "key");
    let mounts = world.view("look", "committed");
    world.mounted(&mounts, |root| assert!(root.join("new").exists()));
}

pub(super) fn several_are_removed_each_with_its_own_result(world: &World) {
    world.layer("below", "", |root| write(root, "foo", "a"));
    world.layer("kept", "", |root| write(root, "foo", "b"));
    world.layer("above", "below", |_| ());
    world.prepare("active", "kept");
    world.prepare("alone", "");
    assert!(world.remove_all(&[]).is_empty());
    let results = world.remove_all(&["alone", "missing", "kept", "above"]);
    let kinds: Vec<_> = results.into_iter().map(|result| result.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::NotFound), Some(ErrorKind::FailedPrecondition), None]);
    assert_eq!(world.names(&[], None, 100), ["active", "below", "kept"]);
    // In this order all of them can go, together or after another try.
    let results = world.remove_all(&["active", "kept", "below"]);
    let again = ["active", "kept", "below"].into_iter().zip(results).filter(|(_, result)| result.is_err());
    let again: Vec<_> = again.map(|(key, _)| key).collect();
    assert!(world.remove_all(&again).into_iter().all(|result| result.is_ok()));
    assert!(world.names(&[], None, 100).is_empty());
}

pub(super) fn a_snapshot_that_others_stand_on_stays(world: &World) {
    world.layer("a", "", |_| ());
    world.layer("b", "a", |_| ());
    world.prepare("active", "b");
    world.view("look", "b");
    for name in ["a", "b"] {
        assert_refused(world.remove(name), ErrorKind::FailedPrecondition);
    }
    world.remove("active").expect("nothing stands on it");
    assert_refused(world.remove("b"), ErrorKind::FailedPrecondition);
    for name in ["look", "b", "a"] {
        world.remove(name).expect("nothing stands on it any more");
    }
}

pub(super) fn mounts_are_the_same_each_time(world: &World) {
    let mut parent = String::new();
    for depth in 0..3 {
        let (active, view) = (format!("active-{depth}"), format!("view-{depth}"));
        let made = (world.prepare(&active, &parent), world.view(&view, &parent));
        for _ in 0..2 {
            let asked =
                (world.mounts(&active).expect("it is active"), world.mounts(&view).expect("it is a view"));
            assert_eq!(made, asked);
        }
        let name = format!("layer-{depth}");
        world.layer(&name, &parent, |root| write(root, &name, ""));
        parent = name;
    }
}

pub(super) fn a_view_refuses_writes(world: &World) {
    let mut parent = String::new();
    for depth in 0..3 {
        let view = format!("view-{depth}");
        let mounts = world.view(&view, &parent);
        world.mounted(&mounts, |root| {
            assert!(std::fs::File::create(root.join("new")).is_err(), "a view of {depth} layers took a file");
            assert_eq!(std::fs::read_dir(root).expect("it can be listed").count(), depth);
        });
        let name = format!("layer-{depth}");
        world.layer(&name, &parent, |root| write(root, &name, ""));
        parent = name;
    }
}

pub(super) fn a_view_is_no_parent_and_cannot_be_committed(world: &World) {
    world.layer("base", "", |_| ());
    world.view("look", "base");
    assert_eq!(world.stat("look").expect("it was made").kind, Kind::View);
    assert_refused(world.try_commit("name", "look", None), ErrorKind::FailedPrecondition);
    assert_refused(world.try_prepare("key", "look"), ErrorKind::InvalidArgument);
    assert_refused(world.stat("name"), ErrorKind::NotFound);
}

pub(super) fn the_root_of_a_snapshot_has_mode_0755(world: &World) {
    let check = |root: &std::path::Path| {
        let mode = std::os::unix::fs::MetadataExt::mode(&root.metadata().expect("it is there"));
        assert_eq!(mode & 0o7777, 0o755);
    };
    let mounts = world.prepare("active", "");
    world.mounted(&mounts, check);
    world.commit("layer", "active");
    let mounts = world.prepare("next", "layer");
    world.mounted(&mounts, check);
}

pub(super) fn a_parent_given_at_commit_lies_below(world: &World) {
    world.layer("lower", "", |root| write(root, "lower", ""));
    let mounts = world.prepare("active", "");
    world.mounted(&mounts, |root| write(root, "upper", ""));
    world.try_commit("upper", "active", Some("lower")).expect("a snapshot without a parent can be given one");
    assert_eq!(world.stat("upper").expect("it was committed").parent, "lower");
    assert_refused(world.remove("lower"), ErrorKind::FailedPrecondition);
    let mounts = world.view("look", "upper");
    world.mounted(&mounts, |root| assert!(root.join("lower").exists() && root.join("upper").exists()));
}

pub(super) fn the_same_parent_may_be_given_at_commit(world: &World) {
    world.layer("lower", "", |_| ());
    world.prepare("active", "lower");
    world.try_commit("upper", "active", Some("lower")).expect("it is the parent already");
    assert_eq!(world.stat("upper").expect("it was committed").parent, "lower");
}

pub(super) fn one_of_many_that_want_the_same_key_gets_it(world: &World) {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| world.try_prepare("key", ""))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1);
    for result in results.into_iter().filter(Result::is_err) {
        assert_refused(result, ErrorKind::AlreadyExists);
    }
    let mounts = world.mounts("key").expect("somebody made it");
    world.mounted(&mounts, |root| write(root, "file", ""));
}

pub(super) fn many_keys_are_prepared_and_committed_at_once(world: &World) {
    world.layer("base", "", |root| write(root, "base", ""));
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let (key, name) = (format!("key-{number}"), format!("name-{number}"));
                let mounts = world.prepare(&key, "base");
                world.mounted(&mounts, |root| write(root, &name, ""));
                world.commit(&name, &key);
            });
        }
    });
    for number in 0..8 {
        let mounts = world.view(&format!("view-{number}"), &format!("name-{number}"));
        world.mounted(&mounts, |root| {
            assert!(root.join("base").exists() && root.join(format!("name-{number}")).exists());
            assert_eq!(std::fs::read_dir(root).expect("it can be listed").count(), 2);
        });
    }
}

pub(super) fn removed_snapshots_are_cleaned_up(world: &World) {
    world.layer("layer", "", |root| write(root, "file", ""));
    world.layer("doomed", "layer", |root| write(root, "file", ""));
    world.remove("doomed").expect("nothing stands on it");
    match world.call(|snapshots| snapshots.cleanup()) {
        Ok(()) => world.call(|snapshots| snapshots.cleanup()).expect("a second time is fine"),
        refused => assert_refused(refused, ErrorKind::Unimplemented),
    }
    let mounts = world.view("look", "layer");
    world.mounted(&mounts, |root| assert!(root.join("file").exists(), "too much was removed"));
}
