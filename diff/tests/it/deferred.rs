//! Layers that are unpacked before the layers below them, beside the same layers one after the other.

use std::{fs, path::PathBuf};

use corten_diff::{
    archive::{EntryKind, Header},
    unpack::{Deferred, UnpackOptions, Whiteouts, unpack_before_parents},
};
use proptest::prelude::*;

use crate::{
    layer::{Layer, header},
    lower_links::Stack,
    root_or_skip,
    tree::{Tree, describe},
};

/// Everything in an archive is older than this; what is younger is as old as the test.
const LATEST_ARCHIVED_SECOND: i64 = 1_500_000_000;

/// A folder with everything but the moments at which it was made.
fn described(folder: &std::path::Path) -> Tree {
    let settle = |text: String| {
        let words = text.split(' ').map(|word| {
            let second = word.split_once('.').and_then(|(second, _)| second.parse::<i64>().ok());
            if second.is_some_and(|second| second > LATEST_ARCHIVED_SECOND) { "now" } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    describe(folder).into_iter().map(|(path, text)| (path, settle(text))).collect()
}

fn one_after_the_other(archives: &[Vec<u8>]) -> Option<Vec<Tree>> {
    let mut stack = Stack::new();
    for archive in archives {
        stack.add(archive).ok()?;
    }
    Some(stack.layers.iter().map(|layer| described(layer)).collect())
}

/// All at once, and settled from the lowest to the highest.
fn at_once(archives: &[Vec<u8>]) -> Option<Vec<Tree>> {
    let mut stack = Stack::new();
    let folders: Vec<PathBuf> = archives.iter().map(|_| stack.grow()).collect();
    let options =
        UnpackOptions { whiteouts: Whiteouts::Overlay { user_xattrs: false }, ..UnpackOptions::default() };
    let deferred: Option<Vec<Deferred>> = std::thread::scope(|scope| {
        let unpacks: Vec<_> = archives
            .iter()
            .zip(&folders)
            .map(|(archive, folder)| {
                scope.spawn(|| unpack_before_parents(&archive[..], folder, &options, None).ok())
            })
            .collect();
        unpacks.into_iter().map(|unpack| unpack.join().unwrap().map(|(_, deferred)| deferred)).collect()
    });
    for (index, deferred) in deferred?.into_iter().enumerate() {
        deferred.settle(&folders[index], &stack.below(index), &options, None).ok()?;
    }
    Some(folders.iter().map(|folder| described(folder)).collect())
}

fn assert_same(layers: Vec<Layer>) {
    let archives: Vec<_> = layers.into_iter().map(Layer::build).collect();
    let serial = one_after_the_other(&archives).expect("the layers are sound");
    assert_eq!(at_once(&archives).expect("the layers are sound"), serial);
}

fn owned(path: &str, uid: u32) -> Header {
    let xattrs = vec![(b"user.of".to_vec(), uid.to_string().into_bytes())];
    let kind = if path.ends_with('/') { EntryKind::Directory } else { EntryKind::File };
    Header { mode: 0o2750, uid, modified_seconds: 900_000_000 + i64::from(uid), xattrs, ..header(kind, path) }
}

fn base() -> Layer {
    Layer::new()
        .entry(&owned("usr/", 1), b"")
        .entry(&owned("usr/bin/", 2), b"")
        .entry(&owned("usr/bin/tool", 3), b"tool")
        .entry(&owned("etc/", 4), b"")
        .entry(&owned("etc/conf", 5), b"conf")
        .symlink("bin", "usr/bin")
}

#[test]
fn missing_directories_get_the_attributes_of_the_layers_below() {
    root_or_skip!();
    assert_same(vec![
        base(),
        Layer::new().file("usr/bin/new", b"n").file("etc/sub/new", b"n").file("var/lib/new", b"n"),
        Layer::new()
            .file("usr/bin/newer", b"n")
            .entry(&Header { mode: 0o711, ..owned("var/lib/", 9) }, b"")
            .file("var/lib/x", b"x")
            .file("etc/one", b"1")
            .entry(&header(EntryKind::Directory, "etc/"), b""),
    ]);
}

#[test]
fn whiteouts_with_nothing_to_hide_go() {
    root_or_skip!();
    assert_same(vec![
        base(),
        Layer::new()
            .file("usr/.wh.bin", b"")
            .file("nowhere/.wh.file", b"")
            .file("nowhere/kept", b"k")
            .file("etc/.wh.none", b""),
        Layer::new()
            .file(".wh.etc", b"")
            .directory("etc/")
            .file("etc/f", b"f")
            .file("fresh/.wh.x", b"")
            .directory("fresh/x/"),
        Layer::new().file("usr/.wh..wh..opq", b"").file("etc/.wh.f", b""),
    ]);
}

#[test]
fn hard_links_reach_the_layers_below() {
    root_or_skip!();
    let link = |path: &str, target: &str| Header { link: target.into(), ..owned(path, 3) };
    let link = |path, target| Header { kind: EntryKind::HardLink, xattrs: Vec::new(), ..link(path, target) };
    assert_same(vec![
        base(),
        Layer::new()
            .entry(&link("etc/tool", "usr/bin/tool"), b"")
            .entry(&link("second", "usr/bin/tool"), b"")
            .entry(&link("chained", "second"), b"")
            .entry(&link("replaced", "etc/conf"), b"")
            .file("replaced", b"by a file")
            .entry(&link("removed", "etc/conf"), b"")
            .file(".wh.removed", b""),
    ]);
}

#[test]
fn a_plain_layer_leaves_nothing_to_do() {
    root_or_skip!();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let options =
        UnpackOptions { whiteouts: Whiteouts::Overlay { user_xattrs: false }, ..UnpackOptions::default() };
    let archive = base().build();
    let (_, deferred) = unpack_before_parents(&archive[..], folder.path(), &options, None).unwrap();
    assert!(deferred.is_empty());
    let archive = Layer::new().file("a/b", b"").build();
    let (_, deferred) = unpack_before_parents(&archive[..], folder.path(), &options, None).unwrap();
    assert_eq!(deferred.len(), 1);
    assert!(fs::metadata(folder.path().join("a/b")).is_ok());
}

type Step = (u8, String, String);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"));
    proptest::collection::vec((0_u8..9, path.clone(), path), 1..8)
}

fn build(steps: &[Step], seed: u32) -> Vec<u8> {
    let mut layer = Layer::new();
    for (number, (kind, path, link)) in steps.iter().enumerate() {
        let owner = seed * 100 + u32::try_from(number).unwrap();
        layer = match kind {
            0 | 1 => layer.entry(&owned(path, owner), path.as_bytes()),
            2 | 3 => layer.entry(&owned(&format!("{path}/"), owner), b""),
            4 => layer.symlink(path, link),
            5 => layer.hard_link(path, link),
            6 => {
                let (parent, base) = path.rsplit_once('/').unwrap_or(("", path));
                layer.file(format!("{parent}/.wh.{base}"), b"")
            }
            7 => layer.file(format!("{path}/.wh..wh..opq"), b""),
            _ => layer.file(path, b"plain"),
        };
    }
    layer.build()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Layers that one after the other are refused, or that need to be unpacked again, say nothing.
    #[test]
    fn layers_at_once_are_layers_one_after_the_other(layers in proptest::collection::vec(steps(), 2..4)) {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let archives: Vec<_> =
            layers.iter().enumerate().map(|(seed, steps)| build(steps, seed as u32)).collect();
        if let (Some(serial), Some(parallel)) = (one_after_the_other(&archives), at_once(&archives)) {
            prop_assert_eq!(parallel, serial);
        }
    }
}
