//! Hard links of a layer to files of the layers below an upper folder.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use corten_diff::{
    archive::{EntryKind, Header},
    unpack::{UnpackOptions, Whiteouts, unpack},
};
use corten_mount::TemporaryMount;
use corten_types::{Error, ErrorKind, Mount};

use crate::{
    layer::{Layer, header},
    root_or_skip,
    tree::describe,
};

const OVERLAY: Whiteouts = Whiteouts::Overlay { user_xattrs: false };

/// Folders of layers, the lowest first.
pub(crate) struct Stack {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) layers: Vec<PathBuf>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        // Overlayfs does not lie on overlayfs.
        Self { folder: tempfile::tempdir_in("/var/tmp").unwrap(), layers: Vec::new() }
    }

    /// A folder for one more layer.
    pub(crate) fn grow(&mut self) -> PathBuf {
        let path = self.folder.path().join(format!("layer{}", self.layers.len()));
        fs::create_dir(&path).unwrap();
        self.layers.push(path.clone());
        path
    }

    /// The layers below the `count`th, the nearest first.
    pub(crate) fn below(&self, count: usize) -> Vec<PathBuf> {
        self.layers[..count].iter().rev().cloned().collect()
    }

    pub(crate) fn add(&mut self, archive: &[u8]) -> corten_types::Result<PathBuf> {
        let lower_layers = self.below(self.layers.len());
        let path = self.grow();
        let options = UnpackOptions { whiteouts: OVERLAY, lower_layers, ..UnpackOptions::default() };
        unpack(archive, &path, &options)?;
        Ok(path)
    }

    /// What is seen of all layers.
    pub(crate) fn mount(&self) -> TemporaryMount {
        let lower: Vec<_> =
            self.below(self.layers.len()).iter().map(|path| path.display().to_string()).collect();
        let mount = Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec![format!("lowerdir={}", lower.join(":"))],
        };
        TemporaryMount::new(&[mount], &self.folder.path().join("mounts")).unwrap()
    }
}

fn link(path: &str, target: &str) -> Header {
    Header { mode: 0o640, uid: 7, gid: 8, link: target.into(), ..header(EntryKind::HardLink, path) }
}

fn base() -> Vec<u8> {
    let tool = Header {
        mode: 0o755,
        uid: 7,
        gid: 8,
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())],
        ..header(EntryKind::File, "usr/bin/tool")
    };
    Layer::new()
        .entry(&Header { mode: 0o711, uid: 3, ..header(EntryKind::Directory, "usr/") }, b"")
        .directory("usr/bin/")
        .entry(&tool, b"tool")
        .symlink("usr/bin/way", "tool")
        .build()
}

#[test]
fn the_file_is_copied_up_and_both_names_are_one_file() {
    root_or_skip!();
    let mut stack = Stack::new();
    stack.add(&base()).unwrap();
    let layer =
        Layer::new().entry(&link("opt/tool", "usr/bin/tool"), b"").hard_link("opt/way", "/usr/bin/way");
    let upper = stack.add(&layer.build()).unwrap();
    let data = fs::metadata(upper.join("usr/bin/tool")).unwrap();
    assert_eq!(data.nlink(), 2);
    assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777), (7, 8, 0o640));
    assert_eq!(xattr::get(upper.join("opt/tool"), "user.a").unwrap().unwrap(), b"1");
    // Directories on the way look as they do below.
    let directory = fs::metadata(upper.join("usr")).unwrap();
    assert_eq!((directory.uid(), directory.mode() & 0o7777), (3, 0o711));
    let mounted = stack.mount();
    assert_eq!(fs::read(mounted.path().join("opt/tool")).unwrap(), b"tool");
    let tree = describe(mounted.path());
    assert!(tree["usr/bin/tool"].contains("linked to opt/tool"), "{}", tree["usr/bin/tool"]);
    assert_eq!(fs::read_link(mounted.path().join("opt/way")).unwrap(), Path::new("tool"));
    mounted.close().unwrap();
}

#[test]
fn holes_are_copied_as_holes() {
    root_or_skip!();
    let mut stack = Stack::new();
    let lower = stack.grow();
    let file = fs::File::create(lower.join("holes")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 64 << 20).unwrap();
    file.set_len(128 << 20).unwrap();
    let upper = stack.add(&Layer::new().hard_link("name", "holes").build()).unwrap();
    let data = fs::metadata(upper.join("name")).unwrap();
    assert_eq!(data.len(), 128 << 20);
    assert!(data.blocks() < 1024, "{}", data.blocks());
    let mut middle = [0; 6];
    fs::File::open(upper.join("name")).unwrap().read_exact_at(&mut middle, 64 << 20).unwrap();
    assert_eq!(&middle, b"middle");
}

#[test]
fn what_a_layer_in_between_hides_is_not_there() {
    root_or_skip!();
    let hidden = |middle: Option<Layer>, layer: Layer| {
        let mut stack = Stack::new();
        stack.add(&base()).unwrap();
        if let Some(middle) = middle {
            stack.add(&middle.build()).unwrap();
        }
        let error: Error = stack.add(&layer.hard_link("l", "usr/bin/tool").build()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    };
    for way in [".wh.usr", "usr/.wh.bin", "usr/bin/.wh.tool", "usr/.wh..wh..opq"] {
        let deletion = || Layer::new().file(way, b"");
        hidden(Some(deletion()), Layer::new());
        hidden(None, deletion());
    }
    hidden(Some(Layer::new().file(".wh.usr", b"")), Layer::new().directory("usr/").directory("usr/bin/"));
    hidden(None, Layer::new().symlink("usr", "nowhere"));
}

#[test]
fn only_files_and_links_are_copied_up() {
    root_or_skip!();
    let mut stack = Stack::new();
    stack.add(&Layer::new().directory("d/").entry(&header(EntryKind::Fifo, "pipe"), b"").build()).unwrap();
    for target in ["d", "pipe"] {
        assert!(stack.add(&Layer::new().hard_link("l", target).build()).is_err(), "{target}");
        stack.layers.pop();
        fs::remove_dir_all(stack.folder.path().join("layer1")).unwrap();
    }
}
