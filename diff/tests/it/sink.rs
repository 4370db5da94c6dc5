//! What is told of a layer, beside what is on the disk.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::{Arc, Mutex},
};

use corten_diff::{
    Applier, ApplyOptions, DifferOptions, WalkingDiffer,
    archive::{EntryKind, Header},
    unpack::{Placed, TreeObserver, TreeSink, UnpackOptions, Whiteouts, unpack_with},
};
use corten_types::{Error, Result};

use crate::{
    apply::bind,
    layer::{Layer, header},
    root_or_skip,
    store::Store,
};

/// What is at every path, in words.
#[derive(Debug, Default)]
struct Recorded(BTreeMap<Vec<u8>, String>);

impl TreeSink for Recorded {
    fn put(&mut self, path: &[u8], placed: Placed<'_>) {
        let text = match placed {
            Placed::Directory => "directory".to_owned(),
            Placed::File { size_bytes, crc32c } => format!("file {size_bytes} {crc32c:08x}"),
            Placed::HardLink { target } => self.0[target].clone(),
            Placed::Symlink { target } => format!("link {}", target.escape_ascii()),
            Placed::Fifo => "fifo".to_owned(),
            Placed::CharacterDevice { device } => format!("character {device}"),
            Placed::BlockDevice { device } => format!("block {device}"),
            other => panic!("{other:?}"),
        };
        self.0.insert(path.to_vec(), text);
    }

    fn remove(&mut self, path: &[u8]) {
        let below = [path, b"/"].concat();
        self.0.retain(|known, _| known != path && !known.starts_with(&below));
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn walk(root: &Path, below: &Path, into: &mut BTreeMap<Vec<u8>, String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        let data = entry.metadata().unwrap();
        let text = match data.mode() & 0o170_000 {
            0o040_000 => {
                walk(root, &path, into);
                "directory".to_owned()
            }
            0o100_000 => {
                let contents = fs::read(entry.path()).unwrap();
                format!("file {} {:08x}", contents.len(), crc32c::crc32c(&contents))
            }
            0o120_000 => {
                format!("link {}", fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().escape_ascii())
            }
            0o010_000 => "fifo".to_owned(),
            0o020_000 => format!("character {}", data.rdev()),
            0o060_000 => format!("block {}", data.rdev()),
            other => panic!("{other:o}"),
        };
        into.insert(path.as_os_str().as_bytes().to_vec(), text);
    }
}

/// Files of many sizes, replaced, removed and linked, so that what is told late could come too late.
fn layer() -> Vec<u8> {
    let device = |kind, path| Header { device: (1, 3), ..header(kind, path) };
    let mut layer = Layer::new()
        .directory("d/")
        .entry(&device(EntryKind::CharacterDevice, "d/null"), b"")
        .entry(&device(EntryKind::BlockDevice, "d/disk"), b"")
        .entry(&header(EntryKind::Fifo, "d/pipe"), b"")
        .symlink("way", "d/deep/er");
    for size in [0, 1, 511, 512, 4096, 32 << 10, (32 << 10) + 1, 1 << 20] {
        layer = layer.file(format!("d/deep/er/f{size}"), &vec![size as u8 | 1; size]);
    }
    for number in 0..40 {
        layer = layer
            .file(format!("way/n{number}"), &[number; 100])
            .file("again", &[number; 10])
            .file(format!("gone{number}/a/b"), &[number; 20])
            .file(format!("gone{number}/a"), b"no directory")
            .file(format!(".wh.gone{number}"), b"")
            .file("switch", b"file")
            .directory("switch/")
            .file("switch/inside", &[number; 30]);
        if number % 2 == 0 {
            layer = layer.file(".wh.again", b"").file("again", b"new");
        }
    }
    // What is created in a directory that replaced a whiteout needs no entry of its own.
    layer
        .directory("gone39/")
        .hard_link("linked", "way/n3")
        .hard_link("linked-link", "way")
        .file("last", b"last")
        .build()
}

#[test]
fn what_is_told_is_what_is_there() {
    root_or_skip!();
    for whiteouts in [Whiteouts::Remove, Whiteouts::Overlay { user_xattrs: false }] {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut recorded = Recorded::default();
        let options = UnpackOptions { whiteouts, file_threads: 2, ..UnpackOptions::default() };
        unpack_with(&layer()[..], folder.path(), &options, Some(&mut recorded)).unwrap();
        let mut there = BTreeMap::new();
        walk(folder.path(), Path::new(""), &mut there);
        assert!(there.len() > 60);
        assert_eq!(recorded.0, there, "{whiteouts:?}");
    }
}

#[derive(Debug, Default)]
struct Observer {
    observed: Arc<Mutex<Vec<String>>>,
    fails: bool,
}

struct Finishing(Arc<Mutex<Vec<String>>>, bool);

impl TreeSink for Finishing {
    fn put(&mut self, path: &[u8], _: Placed<'_>) {
        self.0.lock().unwrap().push(format!("put {}", path.escape_ascii()));
    }

    fn remove(&mut self, _: &[u8]) {}

    fn finish(self: Box<Self>) -> Result<()> {
        self.0.lock().unwrap().push("finished".into());
        if self.1 { Err(Error::internal("no room")) } else { Ok(()) }
    }
}

impl TreeObserver for Observer {
    fn observe(&self, folder: &Path) -> Result<Option<Box<dyn TreeSink>>> {
        self.observed.lock().unwrap().push(folder.file_name().unwrap().to_str().unwrap().to_owned());
        Ok(Some(Box::new(Finishing(Arc::clone(&self.observed), self.fails))))
    }
}

#[tokio::test]
async fn an_observer_sees_a_layer_to_its_end_and_cannot_make_it_fail() {
    root_or_skip!();
    for fails in [false, true] {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let observed = Arc::default();
        let observer = Observer { observed: Arc::clone(&observed), fails };
        let options = DifferOptions { observer: Some(Arc::new(observer)), ..DifferOptions::default() };
        let differ = WalkingDiffer::new(folder.path().join("mounts"), options);
        let store = Store::default();
        let plain = "application/vnd.oci.image.layer.v1.tar";
        let sound = store.add(plain, &Layer::new().file("f", b"x").build());
        differ.apply(&store, &sound, &bind(&root), ApplyOptions::default()).await.unwrap();
        assert_eq!(*observed.lock().unwrap(), ["root", "put f", "finished"]);
        // A layer that fails is not finished.
        let refused = store.add(plain, &Layer::new().file("g", b"x").file(".wh.", b"").build());
        differ.apply(&store, &refused, &bind(&root), ApplyOptions::default()).await.unwrap_err();
        assert_eq!(observed.lock().unwrap()[3..], ["root", "put g"]);
    }
}
