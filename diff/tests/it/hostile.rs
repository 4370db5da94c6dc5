//! Archives that try to change something outside their target, or to use up the machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use corten_diff::{
    archive::{EntryKind, Header, Writer},
    unpack::{UnpackOptions, Whiteouts, unpack},
};
use corten_types::ErrorKind;
use proptest::prelude::*;

use crate::{
    layer::{Layer, header},
    root_or_skip,
    tree::{Tree, describe_without, names},
};

/// A target beside things that must not change.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    before: Tree,
}

impl Scene {
    pub(crate) fn new() -> Self {
        // Memory, where there is some: these tests make very many files.
        let memory = Path::new("/dev/shm");
        let folder = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        for path in ["root", "outside/folder"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for path in ["outside/file", "outside/folder/file", "root-file"] {
            let path = folder.path().join(path);
            fs::File::create(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut scene = Self { folder, before: Tree::new() };
        scene.before = scene.outside();
        scene
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The absolute name of something outside.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn outside(&self) -> Tree {
        describe_without(self.folder.path(), Some(Path::new("root")))
    }

    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.outside(), self.before);
    }

    /// Unpacks both ways; whether that works does not matter, only what it touches.
    pub(crate) fn attack(&self, archive: &[u8]) -> bool {
        let mut worked = true;
        for whiteouts in [Whiteouts::Remove, Whiteouts::Overlay { user_xattrs: false }] {
            let options = UnpackOptions { whiteouts, file_threads: 2, ..UnpackOptions::default() };
            worked &= unpack(archive, &self.root(), &options).is_ok();
            assert_eq!(self.outside(), self.before);
        }
        worked
    }
}

#[test]
fn names_that_lead_out_stay_in() {
    root_or_skip!();
    let scene = Scene::new();
    let absolute = scene.path("outside/absolute");
    let mut layer = Layer::new();
    for name in
        ["../outside/up", "a/../../outside/dots", "/../../../outside/many", "./../outside/dot", &absolute]
    {
        layer = layer.file(name, b"x").directory(format!("{name}-folder/"));
    }
    assert!(scene.attack(&layer.build()));
    assert!(scene.root().join("outside/up").is_file());
    assert!(scene.root().join(absolute.trim_start_matches('/')).is_file());
}

#[test]
fn links_on_the_way_are_followed_inside_only() {
    root_or_skip!();
    let scene = Scene::new();
    let layer = Layer::new()
        .symlink("absolute", scene.path("outside"))
        .symlink("relative", "../outside")
        .symlink("far", "../../../../../../../../../../../../etc")
        .symlink("self", ".")
        .symlink("up", "..")
        .symlink("chain", "relative")
        .file("absolute/file", b"x")
        .file("relative/folder/file", b"x")
        .file("far/corten-was-here", b"x")
        .file("self/up/outside/new", b"x")
        .file("chain/another", b"x")
        .file("absolute/.wh.file", b"")
        .file("relative/.wh.folder", b"")
        .file("relative/.wh..wh..opq", b"");
    scene.attack(&layer.build());
    assert!(!Path::new("/etc/corten-was-here").exists());
}

#[test]
fn a_link_as_the_last_component_is_replaced_and_never_followed() {
    root_or_skip!();
    let scene = Scene::new();
    let file = scene.path("outside/file");
    let wide = Header { mode: 0o777, uid: 5, ..header(EntryKind::File, "l") };
    let directory = Header { mode: 0o777, uid: 5, ..header(EntryKind::Directory, "m/") };
    let layer = Layer::new()
        .symlink("l", &file)
        .entry(&wide, b"overwritten")
        .symlink("m", scene.path("outside/folder"))
        .entry(&directory, b"")
        .file("m/inside", b"x");
    assert!(scene.attack(&layer.build()));
    assert!(fs::symlink_metadata(scene.root().join("m")).unwrap().is_dir());
}

/// CVE-2021-32760: the mode of a file outside was changed through a hard link to a symbolic link.
#[test]
fn cve_2021_32760_a_hard_link_to_a_symlink_changes_no_mode_outside() {
    root_or_skip!();
    let scene = Scene::new();
    let link = Header {
        mode: 0o4777,
        uid: 99,
        link: b"sneaky".to_vec(),
        xattrs: vec![(b"user.x".to_vec(), b"x".to_vec())],
        ..header(EntryKind::HardLink, "name")
    };
    let layer = Layer::new().symlink("sneaky", scene.path("outside/file")).entry(&link, b"");
    scene.attack(&layer.build());
}

#[test]
fn hard_links_reach_nothing_outside() {
    root_or_skip!();
    let scene = Scene::new();
    for target in [
        scene.path("outside/file"),
        "../outside/file".into(),
        "../../../../../../../../../../etc/passwd".into(),
        "/etc/passwd".into(),
        "way/file".into(),
        "way/../outside/file".into(),
        "..".into(),
        ".".into(),
        "/".into(),
        String::new(),
        "way".into(),
    ] {
        let layer =
            Layer::new().symlink("way", scene.path("outside")).hard_link("h", &target).file("h", b"x");
        let worked = scene.attack(&layer.build());
        assert!(!worked || target == "way", "{target}");
    }
}

#[test]
fn an_open_directory_is_forgotten_when_something_on_its_way_is_replaced() {
    root_or_skip!();
    let scene = Scene::new();
    let layer = Layer::new()
        .file("a/b/one", b"1")
        .symlink("l", "a")
        .file("l/b/two", b"2")
        .file("l", b"no link any more")
        .file("a", b"no directory any more")
        .directory("a/")
        .directory("a/b/")
        .file("a/b/three", b"3")
        .file(".wh.a", b"")
        .file("a/b/four", b"4");
    let archive = layer.build();
    unpack(&archive[..], &scene.root(), &UnpackOptions::default()).unwrap();
    assert_eq!(names(&scene.root()), ["a", "a/b", "a/b/four", "l"]);
    assert_eq!(scene.outside(), scene.before);
}

#[test]
fn a_whiteout_names_something_beside_it() {
    root_or_skip!();
    let scene = Scene::new();
    fs::create_dir_all(scene.root().join("d/e")).unwrap();
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", "d/e/.wh..."] {
        assert!(!scene.attack(&Layer::new().file(name, b"").build()), "{name}");
    }
    assert_eq!(names(&scene.root()), ["d", "d/e"]);
}

/// CVE-2024-40635: a number that does not fit became root's.
#[test]
fn cve_2024_40635_owners_that_would_wrap_are_refused() {
    root_or_skip!();
    let scene = Scene::new();
    for (key, value) in
        [("uid", "4294967295"), ("uid", "4294967296"), ("gid", "-1"), ("gid", "9223372036854775807")]
    {
        let record = format!("{key}={value}\n");
        let length = record.len() + 3;
        let record = format!("{length} {record}");
        assert_eq!(record.len(), length);
        let mut archive = Vec::new();
        let mut writer = Writer::new(&mut archive);
        let extension = Header { size_bytes: length as u64, ..header(EntryKind::File, "pax") };
        writer.write_header(&extension).unwrap();
        writer.write_contents(record.as_bytes()).unwrap();
        writer.write_header(&header(EntryKind::File, "f")).unwrap();
        writer.finish().unwrap();
        // The first entry becomes an extended header.
        archive[156] = b'x';
        fix_checksum(&mut archive[..512]);
        let error = unpack(&archive[..], &scene.root(), &UnpackOptions::default()).unwrap_err();
        assert!(error.to_string().contains("between 0 and 2^32-2"), "{error}");
    }
}

#[test]
fn links_in_a_circle_are_an_error() {
    root_or_skip!();
    let scene = Scene::new();
    let layer = Layer::new().symlink("a", "b").symlink("b", "a").file("a/f", b"");
    assert!(!scene.attack(&layer.build()));
    let layer = Layer::new().symlink("c", "c/c").file("c/f", b"");
    assert!(!scene.attack(&layer.build()));
}

#[test]
fn trees_of_any_depth_are_removed() {
    root_or_skip!();
    let scene = Scene::new();
    // Deeper than any path may be long, through links.
    let mut layer = Layer::new();
    let step = "d/".repeat(1000);
    let mut way = String::new();
    for number in 0..3 {
        layer = layer.directory(format!("{way}{step}")).symlink(format!("l{number}"), format!("{way}{step}"));
        way = format!("l{number}/");
    }
    let layer = layer.file("l2/bottom", b"x");
    unpack(&layer.build()[..], &scene.root(), &UnpackOptions::default()).unwrap();
    unpack(&Layer::new().file(".wh.d", b"").build()[..], &scene.root(), &UnpackOptions::default()).unwrap();
    assert_eq!(names(&scene.root()), ["l0", "l1", "l2"]);
}

/// CVE-2023-25153: what an archive states to be long was read into memory.
#[test]
fn cve_2023_25153_extensions_that_claim_to_be_long_are_refused_unread() {
    for flag in [b'x', b'g', b'L', b'K'] {
        let mut archive = Vec::new();
        let claim = Header { size_bytes: 7 << 30, ..header(EntryKind::File, "claim") };
        Writer::new(&mut archive).write_header(&claim).unwrap();
        archive[156] = flag;
        fix_checksum(&mut archive[..512]);
        let folder = tempfile::tempdir().unwrap();
        let endless = std::io::BufReader::new(std::io::Read::chain(&archive[..], std::io::repeat(b'x')));
        let error = unpack(endless, folder.path(), &UnpackOptions::default()).unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
    }
}

#[test]
fn names_that_the_kernel_would_not_take_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    for layer in [
        Layer::new().file("d/".repeat(3000), b"x"),
        Layer::new().symlink("s", "d/".repeat(3000)),
        Layer::new().hard_link("h", "d/".repeat(3000)),
    ] {
        let error = unpack(&layer.build()[..], folder.path(), &options).unwrap_err();
        assert_eq!(corten_types::Error::from(error).kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(names(folder.path()).len(), 0);
}

#[test]
fn a_path_that_grows_through_links_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    let mut layer = Layer::new();
    let step = "d/".repeat(2000);
    let mut way = String::new();
    for number in 0..6 {
        layer = layer.directory(format!("{way}{step}")).symlink(format!("l{number}"), format!("{way}{step}"));
        way = format!("l{number}/");
    }
    let error = unpack(&layer.build()[..], folder.path(), &options).unwrap_err();
    assert!(error.to_string().contains("open the directory"), "{error}");
}

pub(crate) fn fix_checksum(block: &mut [u8]) {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        })
        .sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn random_layer() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    let part = prop_oneof![
        4 => "[abc]",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(".wh.a".to_owned()),
        1 => Just(".wh..wh..opq".to_owned()),
        1 => Just(".wh..".to_owned()),
        1 => Just(String::new()),
    ];
    let path = proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
    proptest::collection::vec((0_u8..8, path.clone(), path), 1..25)
}

fn build(entries: &[(u8, String, String)], outside: &str) -> Vec<u8> {
    let mut layer = Layer::new();
    for (kind, path, link) in entries {
        layer = match kind {
            0 | 1 => layer.file(path, b"contents"),
            2 => layer.directory(format!("{path}/")),
            3 => layer.symlink(path, link),
            4 => layer.symlink(path, format!("{outside}/{link}")),
            5 => layer.symlink(path, format!("../../outside/{link}")),
            6 => layer.hard_link(path, link),
            _ => layer.entry(&header(EntryKind::Fifo, path), b""),
        };
    }
    layer.build()
}

/// Unpacks until an entry fails, and then goes on with the entries after it, as one archive a piece.
fn attack_with_all(scene: &Scene, entries: &[(u8, String, String)]) {
    let outside = scene.path("outside");
    scene.attack(&build(entries, &outside));
    for entry in entries {
        let one = build(std::slice::from_ref(entry), &outside);
        let _ = unpack(&one[..], &scene.root(), &UnpackOptions::default());
    }
    assert_eq!(scene.outside(), scene.before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_mixture_of_entries_changes_anything_outside(entries in random_layer()) {
        if rustix::process::geteuid().is_root() {
            attack_with_all(&Scene::new(), &entries);
        }
    }

    #[test]
    fn archives_with_flipped_bytes_neither_panic_nor_escape(
        entries in random_layer(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        if rustix::process::geteuid().is_root() {
            let scene = Scene::new();
            let mut archive = build(&entries, &scene.path("outside"));
            for (at, value) in flips {
                let at = at.index(archive.len());
                archive[at] = value;
                // The checksum is made right again, or nearly every change would end at it.
                let block = at / 512 * 512;
                fix_checksum(&mut archive[block..block + 512]);
            }
            archive.truncate(cut.index(archive.len()) + 1);
            scene.attack(&archive);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let root = tempfile::tempdir().unwrap();
        let _ = unpack(&bytes[..], root.path(), &UnpackOptions::default());
        prop_assert_eq!(names(root.path()).len(), 0);
    }
}
