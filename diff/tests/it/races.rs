//! Somebody exchanges directories for links while layers are unpacked. `CORTEN_TEST_RACES` says how often.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use corten_diff::{
    archive::{EntryKind, Header},
    unpack::{UnpackOptions, Whiteouts, unpack},
};

use crate::{
    hostile::Scene,
    layer::{Layer, header},
    root_or_skip,
};

const DEFAULT_ROUNDS: usize = 2000;

fn rounds() -> usize {
    std::env::var("CORTEN_TEST_RACES").map_or(DEFAULT_ROUNDS, |rounds| rounds.parse().unwrap())
}

/// A layer whose entries all go by way of `d` or `e`, with every kind of change.
fn layer() -> Vec<u8> {
    entries("e", entries("d", Layer::new())).build()
}

fn entries(top: &str, mut layer: Layer) -> Layer {
    let wide = |path: &str| Header {
        mode: 0o6777,
        uid: 7,
        gid: 7,
        ..header(EntryKind::File, format!("{top}/{path}"))
    };
    let tagged = Header { xattrs: vec![(b"user.x".to_vec(), b"1".to_vec())], ..wide("tagged") };
    layer = layer.directory(format!("{top}/")).directory(format!("{top}/i/"));
    for number in 0..3 {
        layer = layer
            .entry(&wide(&format!("file{number}")), b"x")
            .entry(&wide("file"), b"y")
            .directory(format!("{top}/i/g{number}/"))
            .file(format!("{top}/i/g{number}/deep"), b"z")
            .entry(&tagged, b"t")
            .hard_link(format!("{top}/link{number}"), format!("{top}/file"))
            .hard_link(format!("{top}/i/file"), format!("{top}/file"))
            .symlink(format!("{top}/folder"), "i")
            .file(format!("{top}/folder/through"), b"w")
            .entry(&header(EntryKind::Fifo, format!("{top}/pipe")), b"")
            .file(format!("{top}/.wh.file"), b"")
            .file(format!("{top}/i/.wh..wh..opq"), b"");
    }
    layer
}

/// Sets it also when a test fails, so that nobody goes on for ever.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goes on until `done`: `name` is a directory, then a link to `outside`, then a directory again.
fn swap(root: &Path, name: &str, outside: &str, done: &AtomicBool) {
    let (name, kept) = (root.join(name), root.join(format!("kept-{name}")));
    while !done.load(Ordering::Relaxed) {
        let _ = fs::create_dir_all(&name);
        let _ = rustix::fs::rename(&name, &kept);
        let _ = symlink(outside, &name);
        std::thread::yield_now();
        let _ = fs::remove_file(&name);
        let _ = rustix::fs::rename(&kept, &name);
    }
}

fn race(whiteouts: Whiteouts, rounds: usize) {
    let scene = Scene::new();
    let root = scene.root();
    let archive = layer();
    let done = AtomicBool::new(false);
    let outside = scene.path("outside");
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&root, "d", &outside, &done));
        scope.spawn(|| swap(&root, "e", &outside, &done));
        let _done = Done(&done);
        let options = UnpackOptions { whiteouts, file_threads: 2, ..UnpackOptions::default() };
        for round in 0..rounds {
            // Whether it works does not matter: only what it touches.
            let _ = unpack(&archive[..], &root, &options);
            if round % 500 == 0 {
                scene.assert_untouched();
            }
        }
    });
    scene.assert_untouched();
}

/// CVE-2025-47290: a directory that was checked became a link before it was used.
#[test]
fn cve_2025_47290_links_that_are_swapped_in_lead_nowhere_in_a_plain_tree() {
    root_or_skip!();
    race(Whiteouts::Remove, rounds() / 2);
}

#[test]
fn cve_2025_47290_links_that_are_swapped_in_lead_nowhere_in_an_upper_folder() {
    root_or_skip!();
    race(Whiteouts::Overlay { user_xattrs: false }, rounds() / 2);
}
