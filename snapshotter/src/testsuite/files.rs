//! What happens to files from layer to layer.

use std::path::Path;
use std::time::{Duration, Instant};

use super::tree::{
    assert_same, attribute, chmod, chown, folder, link, remove, rename, special_files, symlink, write,
    write_bytes,
};
use super::world::World;
use crate::Usage;

/// Makes a layer of each step, and fails unless each looks like the steps so far on a plain folder.
fn check_layers(world: &World, steps: &[&dyn Fn(&Path)]) {
    let flat = world.folder();
    let mut parent = String::new();
    for (number, step) in steps.iter().enumerate() {
        let (key, name) = (format!("active-{number}"), format!("layer-{number}"));
        let mounts = world.prepare(&key, &parent);
        step(&flat);
        world.mounted(&mounts, |root| {
            step(root);
            assert_same(&flat, root);
        });
        world.commit(&name, &key);
        let mounts = world.view(&format!("view-{number}"), &name);
        world.mounted(&mounts, |root| assert_same(&flat, root));
        parent = name;
    }
}

pub(super) fn files_are_changed_in_the_next_layer(world: &World) {
    check_layers(
        world,
        &[
            &|root| {
                folder(root, "etc", 0o700);
                write(root, "etc/hosts", "mydomain 10.0.0.1");
                write(root, "etc/profile", "PATH=/usr/bin");
                chmod(root, "etc/profile", 0o644);
            },
            &|root| {
                write(root, "etc/hosts", "mydomain 10.0.0.2");
                chmod(root, "etc/profile", 0o666);
                folder(root, "root", 0o700);
                write(root, "root/.bashrc", "PATH=/usr/sbin:/usr/bin");
            },
        ],
    );
}

pub(super) fn deleted_files_stay_deleted(world: &World) {
    check_layers(
        world,
        &[
            &|root| {
                write(root, "foo", "foo\n");
                write(root, "foobar", "foobar\n");
            },
            &|root| remove(root, "foobar"),
            &|root| write(root, "last", ""),
        ],
    );
}

pub(super) fn a_folder_that_was_made_again_is_empty(world: &World) {
    check_layers(
        world,
        &[
            &|root| {
                folder(root, "lib", 0o700);
                write(root, "lib/hidden", "");
            },
            &|root| {
                remove(root, "lib");
                folder(root, "lib", 0o700);
                write(root, "lib/not-hidden", "");
            },
            &|root| write(root, "lib/newfile", ""),
        ],
    );
}

pub(super) fn owners_are_changed_in_the_next_layer(world: &World) {
    let names = ["opt", "opt/a", "opt/a/b", "opt/a/b/file.txt"];
    check_layers(
        world,
        &[
            &|root| {
                names[..3].iter().for_each(|name| folder(root, name, 0o700));
                write(root, names[3], "hello");
            },
            &|root| names.iter().for_each(|name| chown(root, name, 1)),
        ],
    );
}

pub(super) fn modes_and_owners_of_folders_survive_commits(world: &World) {
    check_layers(
        world,
        &[
            &|root| {
                ["dir1", "dir2", "dir3", "dir4", "dir5"].iter().for_each(|name| folder(root, name, 0o700));
                write(root, "dir4/f1", "...");
                write(root, "dir5/f1", "...");
                ["dir1", "dir2", "dir3", "dir5", "dir5/f1"].iter().for_each(|name| chown(root, name, 1));
            },
            &|root| {
                chown(root, "dir2", 0);
                remove(root, "dir3");
                chown(root, "dir4", 1);
                chown(root, "dir4/f1", 1);
                chmod(root, "dir1", 0o2775);
            },
            &|root| {
                folder(root, "dir3", 0o700);
                chown(root, "dir3", 1);
                remove(root, "dir5");
                folder(root, "dir5", 0o700);
                chown(root, "dir5", 1);
            },
        ],
    );
}

fn some_files(root: &Path) {
    folder(root, "dir1", 0o700);
    write(root, "dir1/f", "in a folder");
    folder(root, "somefiles", 0o700);
    write(root, "somefiles/f1", "was here first!");
    write(root, "somefiles/f2", "nothing interesting");
}

pub(super) fn files_are_renamed_in_the_next_layer(world: &World) {
    check_layers(
        world,
        &[&some_files, &|root| {
            write(root, "somefiles/f1-overwrite", "new content 1");
            rename(root, "somefiles/f1-overwrite", "somefiles/f1");
            rename(root, "somefiles/f2", "somefiles/f3");
        }],
    );
}

pub(super) fn a_folder_of_a_lower_layer_is_renamed(world: &World) {
    check_layers(world, &[&some_files, &|root| rename(root, "dir1", "dir2")]);
}

pub(super) fn files_are_moved_between_folders_of_lower_layers(world: &World) {
    check_layers(
        world,
        &[
            &|root| {
                folder(root, "dir1", 0o700);
                write(root, "dir1/f1", "Hello");
                folder(root, "dir2", 0o700);
                write(root, "dir2/f2", "...");
            },
            &|root| {
                folder(root, "dir3", 0o700);
                write(root, "dir3/f1", "Hello");
                remove(root, "dir1");
                link(root, "dir2/f2", "dir3/f2");
                remove(root, "dir2/f2");
            },
        ],
    );
}

pub(super) fn links_devices_and_attributes_reach_the_child(world: &World) {
    check_layers(
        world,
        &[
            &|root| {
                write(root, "file", "linked");
                folder(root, "folder", 0o1777);
                link(root, "file", "folder/same-file");
                symlink(root, "../nowhere", "folder/link");
                special_files(root, "fifo", "null");
                chown(root, "folder/link", 7);
                chmod(root, "file", 0o4711);
                // Where there are no attributes, neither side has any.
                attribute(root, "folder", "of a folder");
                attribute(root, "file", "of a file");
            },
            &|root| write(root, "next", ""),
            &|root| remove(root, "fifo"),
        ],
    );
}

pub(super) fn a_hundred_and_twenty_eight_layers_are_mounted(world: &World) {
    let flat = world.folder();
    let mut parent = String::new();
    for number in 0..128 {
        let step = |root: &Path| {
            if number == 0 {
                write(root, "bottom", "way at the bottom\n");
                folder(root, "addhere", 0o755);
            } else {
                remove(root, "onlyme");
            }
            write(root, "overwriteme", &format!("{number} was here\n"));
            write(root, &format!("addhere/file-{number}"), "same\n");
            folder(root, "onlyme", 0o755);
            write(root, &format!("onlyme/file-{number}"), "only me!\n");
        };
        step(&flat);
        let name = format!("layer-{number}");
        world.layer(&name, &parent, step);
        parent = name;
    }
    let mounts = world.view("look", &parent);
    world.mounted(&mounts, |root| assert_same(&flat, root));
    let mounts = world.prepare("active", &parent);
    world.mounted(&mounts, |root| {
        assert_same(&flat, root);
        write(root, "writable", "");
    });
}

const BIG_BYTES: u64 = 256 << 10;

fn big_file(root: &Path, name: &str) {
    // Not zeros: a filesystem may keep those for nothing.
    let bytes: Vec<u8> = (0..BIG_BYTES).map(|index| u8::try_from(index % 251).unwrap_or_default()).collect();
    write_bytes(root, name, &bytes);
}

pub(super) fn usage_counts_what_was_written_and_hard_links_once(world: &World) {
    let mounts = world.prepare("active", "");
    let usage = |key: &str| world.call(|snapshots| snapshots.usage(key)).expect("usage can be asked");
    let empty = usage("active");
    assert_eq!(empty.inodes, 1, "the root counts");
    world.mounted(&mounts, |root| {
        big_file(root, "big");
        link(root, "big", "again");
        folder(root, "folder", 0o755);
        let root = std::fs::File::open(root).expect("it can be opened");
        rustix::fs::syncfs(root).expect("blocks are counted once they are written");
    });
    // An active snapshot may be measured in the background.
    let deadline = Instant::now() + Duration::from_secs(60);
    let active = loop {
        let active = usage("active");
        if active.inodes == 3 && active.size_bytes >= BIG_BYTES {
            break active;
        }
        assert!(Instant::now() < deadline, "{active:?} is told and never gets right");
        std::thread::yield_now();
    };
    world.commit("layer", "active");
    let committed = usage("layer");
    assert_eq!(committed.inodes, 3);
    for size_bytes in [active.size_bytes, committed.size_bytes] {
        assert!((BIG_BYTES..2 * BIG_BYTES).contains(&size_bytes), "{size_bytes} bytes");
    }
}

pub(super) fn usage_leaves_out_the_parents(world: &World) {
    world.layer("lower", "", |root| big_file(root, "big"));
    world.layer("upper", "lower", |root| write(root, "small", "small"));
    let usage = world.call(|snapshots| snapshots.usage("upper")).expect("usage can be asked");
    assert_eq!(usage.inodes, 2);
    assert!(usage.size_bytes < BIG_BYTES, "{} bytes", usage.size_bytes);
}

pub(super) fn a_view_takes_nothing(world: &World) {
    world.layer("layer", "", |root| big_file(root, "big"));
    for (key, parent) in [("look", "layer"), ("empty", "")] {
        world.view(key, parent);
        let usage = world.call(|snapshots| snapshots.usage(key)).expect("usage can be asked");
        assert_eq!(usage, Usage::default(), "{key}");
    }
}
