//! Deletions, in a plain tree and in an upper folder of an overlay: what one sees at the end is the same.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use corten_diff::{
    archive::{EntryKind, Header},
    unpack::{UnpackOptions, Whiteouts, unpack},
};
use corten_mount::TemporaryMount;
use corten_types::Mount;

use crate::{
    layer::{Layer, header},
    root_or_skip,
    tree::{Tree, describe, names},
};

const OVERLAY: Whiteouts = Whiteouts::Overlay { user_xattrs: false };

fn add(root: &Path, archive: &[u8], whiteouts: Whiteouts) {
    unpack(archive, root, &UnpackOptions { whiteouts, file_threads: 2, ..UnpackOptions::default() }).unwrap();
}

/// What is seen after unpacking `layer` on `lower` as a plain tree.
fn plain(lower: &[u8], layer: &[u8]) -> Tree {
    let root = tempfile::tempdir().unwrap();
    add(root.path(), lower, Whiteouts::Remove);
    add(root.path(), layer, Whiteouts::Remove);
    describe(root.path())
}

/// What is seen through an overlay.
fn overlaid(lower: &[u8], layer: &[u8]) -> Tree {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let [lower_path, upper_path, work_path] = ["lower", "upper", "work"].map(|name| folder.path().join(name));
    for path in [&lower_path, &upper_path, &work_path] {
        fs::create_dir(path).unwrap();
    }
    add(&lower_path, lower, Whiteouts::Remove);
    let options = UnpackOptions {
        whiteouts: OVERLAY,
        lower_layers: vec![lower_path.clone()],
        ..UnpackOptions::default()
    };
    unpack(layer, &upper_path, &options).unwrap();
    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
    let mount = Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec![
            option("lowerdir", &lower_path),
            option("upperdir", &upper_path),
            option("workdir", &work_path),
        ],
    };
    let mounted = TemporaryMount::new(&[mount], &folder.path().join("mounts")).unwrap();
    let tree = describe(mounted.path());
    mounted.close().unwrap();
    tree
}

/// Times of directories that only exist because something is in them depend on when that was; the rest must agree.
fn without_times(tree: Tree) -> Tree {
    tree.into_iter()
        .map(|(path, text)| {
            let mut words: Vec<&str> = text.split(' ').collect();
            if words[0].starts_with("40") {
                words.remove(2);
            }
            words.retain(|word| !word.starts_with("trusted."));
            (path, words.join(" "))
        })
        .collect()
}

fn lower() -> Vec<u8> {
    Layer::new()
        .directory("d/")
        .file("d/a", b"lower a")
        .file("d/b", b"lower b")
        .directory("d/sub/")
        .file("d/sub/x", b"lower x")
        .file("d/sub/y", b"lower y")
        .file("file", b"lower file")
        .symlink("link", "d")
        .build()
}

#[test]
fn both_ways_to_delete_show_the_same_tree() {
    root_or_skip!();
    let cases: Vec<(&str, Layer)> = vec![
        ("a file", Layer::new().file("d/.wh.a", b"")),
        ("a directory", Layer::new().file(".wh.d", b"")),
        ("a link, not what it points to", Layer::new().file(".wh.link", b"")),
        ("what is not there", Layer::new().file("d/.wh.nothing", b"").file("new/.wh.nothing", b"")),
        ("before it comes back", Layer::new().file(".wh.d", b"").directory("d/").file("d/c", b"new")),
        ("after it came", Layer::new().file("d/c", b"new").file("d/.wh.c", b"")),
        ("what was replaced", Layer::new().file("d/a", b"new").file("d/.wh.a", b"")),
        ("an opaque directory", Layer::new().directory("d/").file("d/.wh..wh..opq", b"").file("d/c", b"new")),
        ("opaque after its files", Layer::new().file("d/c", b"new").file("d/.wh..wh..opq", b"")),
        (
            "opaque with files deeper down that no entry announces",
            Layer::new().file("d/sub/new", b"new").file("d/.wh..wh..opq", b""),
        ),
        (
            "opaque twice, outside first",
            Layer::new().file("d/.wh..wh..opq", b"").file("d/sub/z", b"z").file("d/sub/.wh..wh..opq", b""),
        ),
        (
            "opaque twice, inside first",
            Layer::new().file("d/sub/z", b"z").file("d/sub/.wh..wh..opq", b"").file("d/.wh..wh..opq", b""),
        ),
        ("a directory becomes a file", Layer::new().file("d", b"file now")),
        ("and a directory again", Layer::new().file("d", b"file now").directory("d/").file("d/c", b"new")),
        ("a file becomes a directory", Layer::new().directory("file/").file("file/c", b"new")),
        ("metadata of aufs", Layer::new().file(".wh..wh.plnk", b"").file(".wh..wh.aufs", b"")),
    ];
    for (what, layer) in cases {
        let layer = layer.build();
        let expected = without_times(plain(&lower(), &layer));
        assert_eq!(without_times(overlaid(&lower(), &layer)), expected, "{what}");
    }
}

#[test]
fn an_opaque_directory_spares_what_came_with_the_layer() {
    root_or_skip!();
    let layer = Layer::new()
        .file("d/sub/new", b"new")
        .file("d/a", b"new a")
        .file("d/.wh..wh..opq", b"")
        .file("d/later", b"later")
        .build();
    let names: Vec<String> = plain(&lower(), &layer).into_keys().collect();
    assert_eq!(names, ["d", "d/a", "d/later", "d/sub", "d/sub/new", "file", "link"]);
}

#[test]
fn a_whiteout_in_an_upper_folder_is_a_device_with_the_markers_owner() {
    root_or_skip!();
    let upper = tempfile::tempdir().unwrap();
    let marker = Header { uid: 11, gid: 22, ..header(EntryKind::File, "d/.wh.a") };
    let layer = Layer::new().entry(&marker, b"").entry(&marker, b"").file("e/.wh..wh..opq", b"").build();
    add(upper.path(), &layer, OVERLAY);
    let data = fs::symlink_metadata(upper.path().join("d/a")).unwrap();
    assert!(data.file_type().is_char_device());
    assert_eq!((data.rdev(), data.uid(), data.gid()), (0, 11, 22));
    assert_eq!(xattr::get(upper.path().join("e"), "trusted.overlay.opaque").unwrap(), Some(b"y".to_vec()));
    assert_eq!(names(upper.path()), ["d", "d/a", "e"]);
}

#[test]
fn an_overlay_with_user_attributes_gets_those_and_no_others() {
    root_or_skip!();
    let upper = tempfile::tempdir_in("/var/tmp").unwrap();
    let xattrs = vec![(b"user.overlay.redirect".to_vec(), b"/etc".to_vec())];
    let layer = Layer::new()
        .entry(&Header { xattrs, ..header(EntryKind::Directory, "e/") }, b"")
        .file("e/.wh..wh..opq", b"")
        .build();
    add(upper.path(), &layer, Whiteouts::Overlay { user_xattrs: true });
    let path = upper.path().join("e");
    assert_eq!(xattr::get(&path, "user.overlay.opaque").unwrap(), Some(b"y".to_vec()));
    assert_eq!(xattr::get(&path, "user.overlay.redirect").unwrap(), None);
    assert_eq!(xattr::get(&path, "trusted.overlay.opaque").unwrap(), None);
}
