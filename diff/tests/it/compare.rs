//! Layers from two trees, and back.

use std::{
    collections::BTreeMap,
    fs::{self, FileTimes, OpenOptions},
    io::Read,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use corten_content_store::ContentStore;
use corten_diff::{
    Applier, ApplyOptions, CompareOptions, Comparer, DifferOptions, WalkingDiffer,
    archive::{Entry, EntryKind, Reader},
    decompressor,
};
use corten_mount::TemporaryMount;
use corten_types::{Descriptor, Error, ErrorKind, Mount, Result};
use proptest::prelude::*;

use crate::{
    apply::bind,
    root_or_skip,
    store::{Store, digest_of},
    tree::describe,
};

const OCI: &str = "application/vnd.oci.image.layer.v1.tar";

struct Scene {
    folder: tempfile::TempDir,
    store: Store,
    differ: WalkingDiffer,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["lower", "upper"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let differ = WalkingDiffer::new(folder.path().join("mounts"), DifferOptions::default());
        Self { folder, store: Store::default(), differ }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn compare_with(&self, lower: &[Mount], upper: &[Mount], options: CompareOptions) -> Result<Descriptor> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.differ.compare(&self.store, lower, upper, options))
    }

    fn compare(&self, lower: &[Mount], upper: &[Mount]) -> Vec<u8> {
        let options = CompareOptions { media_type: OCI.into(), ..CompareOptions::default() };
        let descriptor = self.compare_with(lower, upper, options).unwrap();
        self.store.bytes(&descriptor.digest).to_vec()
    }

    /// The layer between the folders `lower` and `upper`.
    fn layer(&self) -> Vec<u8> {
        self.compare(&bind(&self.path("lower")), &bind(&self.path("upper")))
    }

    fn apply(&self, layer: &[u8], target: &Path) {
        let descriptor = self.store.add(OCI, layer);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mounts = bind(target);
        runtime
            .block_on(self.differ.apply(&self.store, &descriptor, &mounts, ApplyOptions::default()))
            .unwrap();
    }

    /// Copies `from` with everything that a copy can keep.
    fn copy(&self, from: &str, to: &str) {
        run("cp", &["-aT", self.path(from).to_str().unwrap(), self.path(to).to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn entries(layer: &[u8]) -> Vec<Entry> {
    let mut reader = Reader::new(layer);
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

/// Names, with what hard links link to.
fn listing(layer: &[u8]) -> Vec<String> {
    let show = |entry: Entry| {
        let path = String::from_utf8(entry.path).unwrap();
        match entry.kind {
            EntryKind::HardLink => format!("{path} = {}", String::from_utf8(entry.link).unwrap()),
            _ => path,
        }
    };
    entries(layer).into_iter().map(show).collect()
}

fn write(path: &Path, contents: &[u8]) {
    use std::io::Write as _;
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path).unwrap();
    file.write_all(contents).unwrap();
}

fn set_time(path: &Path, seconds: u64, nanoseconds: u32) {
    let time = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    let file = OpenOptions::new().read(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// What a layer can keep: whole seconds, and no times of directories, which change with what is in them.
fn kept(root: &Path) -> BTreeMap<String, String> {
    let shorten = |(path, text): (String, String)| {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        if words[0].starts_with("40") {
            words.remove(2);
        } else {
            let whole = words[2].find('.').unwrap();
            words[2].truncate(whole);
        }
        words.retain(|word| !word.starts_with("user."));
        (path, words.join(" "))
    };
    describe(root).into_iter().map(shorten).collect()
}

#[test]
fn unchanged_trees_give_an_empty_layer() {
    root_or_skip!();
    let scene = Scene::new();
    write(&scene.path("lower/file"), b"x");
    fs::create_dir(scene.path("lower/d")).unwrap();
    scene.copy("lower", "upper");
    assert_eq!(scene.layer(), vec![0; 1024]);
}

#[test]
fn changes_come_in_order_with_their_parents_and_whiteouts() {
    root_or_skip!();
    let scene = Scene::new();
    for path in ["a/b", "gone/deep", "kept"] {
        fs::create_dir_all(scene.path("lower").join(path)).unwrap();
    }
    for path in ["a/b/gone", "a/b/same", "gone/deep/x", "kept/x", "to-dir", "a.file"] {
        write(&scene.path("lower").join(path), b"x");
    }
    scene.copy("lower", "upper");
    fs::remove_file(scene.path("upper/a/b/gone")).unwrap();
    fs::remove_dir_all(scene.path("upper/gone")).unwrap();
    fs::remove_file(scene.path("upper/to-dir")).unwrap();
    fs::create_dir(scene.path("upper/to-dir")).unwrap();
    write(&scene.path("upper/to-dir/new"), b"x");
    write(&scene.path("upper/a/b/new"), b"x");
    fs::remove_dir_all(scene.path("upper/kept")).unwrap();
    write(&scene.path("upper/kept"), b"a file now");
    write(&scene.path("upper/a.file"), b"changed");
    let expected =
        ["a/", "a/b/", "a/b/.wh.gone", "a/b/new", "a.file", ".wh.gone", "kept", "to-dir/", "to-dir/new"];
    assert_eq!(listing(&scene.layer()), expected);
}

#[test]
fn a_directory_with_another_mode_owner_or_device_is_a_change_and_its_time_is_not() {
    root_or_skip!();
    let scene = Scene::new();
    for name in ["mode", "owner", "time"] {
        fs::create_dir(scene.path("lower").join(name)).unwrap();
    }
    scene.copy("lower", "upper");
    fs::set_permissions(scene.path("upper/mode"), fs::Permissions::from_mode(0o1711)).unwrap();
    std::os::unix::fs::chown(scene.path("upper/owner"), Some(7), Some(8)).unwrap();
    set_time(&scene.path("upper/time"), 1, 1);
    let layer = scene.layer();
    assert_eq!(listing(&layer), ["mode/", "owner/"]);
    let entries = entries(&layer);
    assert_eq!(entries[0].mode, 0o1711);
    assert_eq!((entries[1].uid, entries[1].gid), (7, 8));
}

#[test]
fn contents_count_only_where_times_prove_nothing() {
    root_or_skip!();
    let scene = Scene::new();
    for (name, nanoseconds) in [("cut-same", 0), ("cut-changed", 0), ("full-changed", 5)] {
        write(&scene.path("lower").join(name), b"before");
        set_time(&scene.path("lower").join(name), 1000, nanoseconds);
    }
    scene.copy("lower", "upper");
    for (name, nanoseconds) in [("cut-changed", 0), ("full-changed", 5)] {
        write(&scene.path("upper").join(name), b"after!");
        set_time(&scene.path("upper").join(name), 1000, nanoseconds);
    }
    // A time with nanoseconds that did not change is believed.
    assert_eq!(listing(&scene.layer()), ["cut-changed"]);
    for (name, nanoseconds) in [("cut-same", 1), ("full-changed", 0)] {
        set_time(&scene.path("upper").join(name), 1000, nanoseconds);
    }
    assert_eq!(listing(&scene.layer()), ["cut-changed", "cut-same", "full-changed"]);
}

#[test]
fn hard_links_come_once_with_their_contents() {
    root_or_skip!();
    let scene = Scene::new();
    fs::create_dir(scene.path("lower/d")).unwrap();
    for name in ["changed", "linked", "same"] {
        write(&scene.path("lower").join(name), b"x");
        fs::hard_link(scene.path("lower").join(name), scene.path("lower/d").join(name)).unwrap();
    }
    scene.copy("lower", "upper");
    write(&scene.path("upper/d/changed"), b"other");
    fs::hard_link(scene.path("upper/linked"), scene.path("upper/z-new")).unwrap();
    let expected = ["changed", "d/", "d/changed = changed", "z-new", "d/linked = z-new", "linked = z-new"];
    assert_eq!(listing(&scene.layer()), expected);
}

#[test]
fn capabilities_are_kept_and_compared_and_other_attributes_are_not() {
    root_or_skip!();
    let scene = Scene::new();
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    write(&scene.path("lower/ping"), b"x");
    write(&scene.path("lower/other"), b"x");
    scene.copy("lower", "upper");
    xattr::set(scene.path("upper/ping"), "security.capability", capability).unwrap();
    xattr::set(scene.path("upper/other"), "user.comment", b"x").unwrap();
    let entries = entries(&scene.layer());
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
}

#[test]
fn sockets_are_left_out() {
    root_or_skip!();
    let scene = Scene::new();
    let _listener = UnixListener::bind(scene.path("upper/socket")).unwrap();
    write(&scene.path("upper/file"), b"x");
    assert_eq!(listing(&scene.layer()), ["file"]);
}

#[test]
fn no_time_is_later_than_the_source_date_epoch() {
    root_or_skip!();
    let scene = Scene::new();
    write(&scene.path("upper/new"), b"x");
    write(&scene.path("upper/old"), b"x");
    set_time(&scene.path("upper/old"), 5, 999);
    write(&scene.path("lower/gone"), b"x");
    let latest = UNIX_EPOCH + Duration::from_millis(10_500);
    let options = CompareOptions {
        media_type: OCI.into(),
        source_date_epoch: Some(latest),
        ..CompareOptions::default()
    };
    let descriptor =
        scene.compare_with(&bind(&scene.path("lower")), &bind(&scene.path("upper")), options).unwrap();
    let layer = scene.store.bytes(&descriptor.digest);
    let times: Vec<i64> = entries(&layer).iter().map(|entry| entry.modified.seconds).collect();
    assert_eq!(listing(&layer), [".wh.gone", "new", "old"]);
    assert_eq!(times, [0, 10, 5]);
}

#[test]
fn every_media_type_holds_the_same_archive_and_names_it() {
    root_or_skip!();
    let scene = Scene::new();
    write(&scene.path("upper/file"), &[7; 300_000]);
    let plain = scene.compare(&[], &bind(&scene.path("upper")));
    for (asked, got) in [
        ("", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let labels = [("mine".to_owned(), "kept".to_owned())].into();
        let options = CompareOptions { media_type: asked.into(), labels, ..CompareOptions::default() };
        let descriptor = scene.compare_with(&[], &bind(&scene.path("upper")), options).unwrap();
        assert_eq!(descriptor.media_type, got);
        let blob = scene.store.bytes(&descriptor.digest);
        assert_eq!(descriptor.size_bytes, blob.len() as u64);
        let mut unpacked = Vec::new();
        decompressor(&blob[..]).unwrap().read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain && blob.len() < plain.len() / 10);
        let labels = scene.store.labels(&descriptor.digest);
        assert_eq!(labels["containerd.io/uncompressed"], digest_of(&plain).to_string());
        // The second gzip is the blob that exists; its labels stay.
        assert!(labels.contains_key("mine"));
    }
    assert_eq!(scene.store.ingest_bytes().len(), 0);
    let options = CompareOptions { media_type: "application/x".into(), ..CompareOptions::default() };
    let error = scene.compare_with(&[], &bind(&scene.path("upper")), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}

#[test]
fn a_blob_that_exists_without_the_label_gets_it() {
    root_or_skip!();
    let scene = Scene::new();
    write(&scene.path("upper/file"), b"x");
    let compare = || scene.compare_with(&[], &bind(&scene.path("upper")), CompareOptions::default()).unwrap();
    let first = compare();
    let bytes = scene.store.bytes(&first.digest);
    scene.store.add("", &bytes);
    assert!(scene.store.labels(&first.digest).is_empty());
    assert_eq!(compare(), first);
    assert!(scene.store.labels(&first.digest).contains_key("containerd.io/uncompressed"));
}

#[test]
fn only_random_keys_are_given_up_when_it_fails() {
    root_or_skip!();
    let scene = Scene::new();
    let missing = bind(Path::new("/no/such/folder"));
    let compare = |key: &str| {
        let options = CompareOptions { key: key.into(), ..CompareOptions::default() };
        scene.compare_with(&[], &missing, options).unwrap_err()
    };
    compare("");
    assert!(scene.store.ingest_bytes().is_empty());
    // What an attempt before left is thrown away, and the ingest stays.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let content: &dyn ContentStore = &scene.store;
        content.ingest("mine", Default::default()).await.unwrap().write("old".into()).await.unwrap();
    });
    compare("mine");
    assert_eq!(scene.store.ingest_bytes(), [("mine".to_owned(), 0)].into());
}

#[test]
fn a_layer_is_the_same_every_time() {
    root_or_skip!();
    let scene = Scene::new();
    for number in 0..200 {
        write(&scene.path("upper").join(format!("f{}", number * 7919 % 1000)), &[number as u8; 100]);
    }
    let first = scene.layer();
    fs::create_dir(scene.path("again")).unwrap();
    for entry in fs::read_dir(scene.path("upper")).unwrap() {
        let name = entry.unwrap().file_name();
        let (from, to) = (scene.path("upper").join(&name), scene.path("again").join(&name));
        run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
    }
    assert!(scene.compare(&[], &bind(&scene.path("again"))) == first);
}

fn overlay(scene: &Scene) -> Mount {
    for name in ["over", "work"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    let option = |name: &str, path: &str| format!("{name}={}", scene.path(path).display());
    Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec![
            option("workdir", "work"),
            option("upperdir", "over"),
            option("lowerdir", "lower"),
            "index=off".into(),
        ],
    }
}

/// What may be done to a tree.
#[derive(Clone, Debug)]
enum Step {
    Write(String, Vec<u8>),
    Directory(String),
    Remove(String),
    Symlink(String, String),
    HardLink(String, String),
    Mode(String, u32),
    Owner(String, u32),
    Rename(String, String),
    Fifo(String),
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let path = proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/")).boxed();
    let step = prop_oneof![
        4 => (path.clone(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(path, data)| Step::Write(path, data)),
        4 => path.clone().prop_map(Step::Directory),
        2 => path.clone().prop_map(Step::Remove),
        1 => (path.clone(), path.clone()).prop_map(|(path, target)| Step::Symlink(path, target)),
        2 => (path.clone(), path.clone()).prop_map(|(path, target)| Step::HardLink(path, target)),
        1 => (path.clone(), 0_u32..0o10000).prop_map(|(path, mode)| Step::Mode(path, mode)),
        1 => (path.clone(), 0_u32..3_000_000).prop_map(|(path, owner)| Step::Owner(path, owner)),
        1 => (path.clone(), path.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => path.prop_map(Step::Fifo),
    ];
    proptest::collection::vec(step, 0..count)
}

/// Does all that can be done; paths through links are left out, because they may lead anywhere.
fn play(root: &Path, steps: &[Step]) {
    let resolve = |path: &str| {
        let full = root.join(path);
        let is_direct = full
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != root)
            .all(|parent| fs::symlink_metadata(parent).is_ok_and(|data| data.is_dir()));
        is_direct.then_some(full)
    };
    for step in steps {
        let Some(path) = (match step {
            Step::Write(path, _)
            | Step::Directory(path)
            | Step::Remove(path)
            | Step::Symlink(path, _)
            | Step::HardLink(path, _)
            | Step::Mode(path, _)
            | Step::Owner(path, _)
            | Step::Rename(path, _)
            | Step::Fifo(path) => resolve(path),
        }) else {
            continue;
        };
        let data = fs::symlink_metadata(&path).ok();
        match step {
            Step::Write(_, contents) if data.as_ref().is_none_or(fs::Metadata::is_file) => {
                write(&path, contents)
            }
            Step::Directory(_) => drop(fs::create_dir(&path)),
            Step::Remove(_) if data.as_ref().is_some_and(fs::Metadata::is_dir) => {
                fs::remove_dir_all(&path).unwrap();
            }
            Step::Remove(_) => drop(fs::remove_file(&path)),
            Step::Symlink(_, target) => drop(symlink(target, &path)),
            Step::HardLink(_, target) => {
                if let Some(target) = resolve(target) {
                    drop(fs::hard_link(target, &path));
                }
            }
            Step::Mode(_, mode) if data.as_ref().is_some_and(|data| !data.is_symlink()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Step::Owner(_, owner) => drop(std::os::unix::fs::lchown(&path, Some(*owner), Some(*owner / 2))),
            Step::Rename(_, to) => {
                if let Some(to) = resolve(to) {
                    let _ = rustix::fs::rename(&path, &to);
                }
            }
            Step::Fifo(_) => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                let _ = rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0);
            }
            _ => {}
        }
    }
}

/// Files of the lower tree are from long ago, so that every write shows in their time.
fn make_old(root: &Path) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_dir() {
                folders.push(path);
            } else {
                let time = rustix::fs::Timespec {
                    tv_sec: 1_000_000_000,
                    tv_nsec: i64::from(data.ino() as u32 % 1000),
                };
                let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
                let follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(rustix::fs::CWD, &path, &times, follow).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_compared_and_applied_is_the_same_tree(before in steps(25), after in steps(25)) {
        if rustix::process::geteuid().is_root() {
            let scene = Scene::new();
            play(&scene.path("lower"), &before);
            make_old(&scene.path("lower"));
            scene.copy("lower", "upper");
            play(&scene.path("upper"), &after);
            let layer = scene.layer();
            scene.copy("lower", "result");
            scene.apply(&layer, &scene.path("result"));
            prop_assert_eq!(kept(&scene.path("result")), kept(&scene.path("upper")), "{:?}", listing(&layer));
        }
    }

    #[test]
    fn the_upper_folder_of_an_overlay_tells_as_much_as_both_trees(before in steps(25), after in steps(25)) {
        if rustix::process::geteuid().is_root() {
            let scene = Scene::new();
            play(&scene.path("lower"), &before);
            make_old(&scene.path("lower"));
            let mount = overlay(&scene);
            let mounted = TemporaryMount::new(std::slice::from_ref(&mount), &scene.path("mounted")).unwrap();
            play(mounted.path(), &after);
            let slow = scene.compare(&bind(&scene.path("lower")), &bind(mounted.path()));
            mounted.close().unwrap();
            let fast = scene.compare(&bind(&scene.path("lower")), &[mount]);
            prop_assert_eq!(listing(&fast), listing(&slow));
            scene.copy("lower", "result");
            scene.apply(&fast, &scene.path("result"));
            scene.copy("lower", "result2");
            scene.apply(&slow, &scene.path("result2"));
            prop_assert_eq!(kept(&scene.path("result")), kept(&scene.path("result2")));
        }
    }
}

fn sample(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    write(&root.join("usr/bin/su"), b"program");
    fs::set_permissions(root.join("usr/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("usr/bin/su"), root.join("usr/bin/sudo")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    write(&root.join("l".repeat(200)), b"long");
    write(&root.join("caf\u{e9}"), b"unicode");
    std::os::unix::fs::chown(root.join("usr"), Some(3_000_000), Some(12)).unwrap();
}

#[test]
fn gnu_tar_unpacks_a_layer_to_the_same_tree() {
    root_or_skip!();
    let scene = Scene::new();
    sample(&scene.path("upper"));
    let layer = scene.compare(&[], &bind(&scene.path("upper")));
    write(&scene.path("layer.tar"), &layer);
    fs::create_dir(scene.path("result")).unwrap();
    let (tar, result) = (scene.path("layer.tar"), scene.path("result"));
    run("tar", &["--same-owner", "-pxf", tar.to_str().unwrap(), "-C", result.to_str().unwrap()]);
    assert_eq!(kept(&result), kept(&scene.path("upper")));
}

/// Writes an image layout with these layers, as other tools read it.
fn write_image(folder: &Path, layers: &[Vec<u8>]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add = |data: &[u8]| {
        let digest = digest_of(data).to_string();
        write(&blobs.join(digest.trim_start_matches("sha256:")), data);
        digest
    };
    let descriptor = |media_type: &str, data: &[u8]| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, add(data), data.len())
    };
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", digest_of(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    let layers: Vec<String> = layers.iter().map(|layer| descriptor(OCI, layer)).collect();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest_type}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    );
    let manifest = descriptor(manifest_type, manifest.as_bytes());
    let tagged = format!(
        r#"{},"annotations":{{"org.opencontainers.image.ref.name":"test"}}}}"#,
        manifest.trim_end_matches('}')
    );
    write(&folder.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{tagged}]}}"#).as_bytes());
    write(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn umoci_unpacks_layers_to_the_same_tree() {
    root_or_skip!();
    if Command::new("umoci").arg("--version").output().is_err() {
        eprintln!("skipped: needs umoci");
        return;
    }
    let scene = Scene::new();
    sample(&scene.path("lower"));
    scene.copy("lower", "upper");
    let upper = scene.path("upper");
    fs::remove_file(upper.join("usr/bin/sudo")).unwrap();
    fs::remove_file(upper.join("bin")).unwrap();
    fs::create_dir(upper.join("bin")).unwrap();
    write(&upper.join("bin/new"), b"new");
    fs::hard_link(upper.join("bin/new"), upper.join("bin/newer")).unwrap();
    let layers = [scene.compare(&[], &bind(&scene.path("lower"))), scene.layer()];
    write_image(&scene.path("image"), &layers);
    let (image, bundle) = (scene.path("image"), scene.path("bundle"));
    run("umoci", &["unpack", "--image", &format!("{}:test", image.display()), bundle.to_str().unwrap()]);
    assert_eq!(kept(&bundle.join("rootfs")), kept(&upper));
}

#[test]
fn times_before_1970_can_bound_a_layer() {
    root_or_skip!();
    let scene = Scene::new();
    write(&scene.path("upper/file"), b"x");
    let latest: SystemTime = UNIX_EPOCH - Duration::from_millis(1500);
    let options = CompareOptions {
        media_type: OCI.into(),
        source_date_epoch: Some(latest),
        ..CompareOptions::default()
    };
    let descriptor = scene.compare_with(&[], &bind(&scene.path("upper")), options).unwrap();
    assert_eq!(entries(&scene.store.bytes(&descriptor.digest))[0].modified.seconds, -2);
}

#[test]
fn a_folder_that_does_not_exist_is_an_error_that_names_it() {
    let scene = Scene::new();
    let missing = bind(Path::new("/no/such/folder"));
    let error: Error = scene.compare_with(&[], &missing, CompareOptions::default()).unwrap_err();
    if rustix::process::geteuid().is_root() {
        assert!(error.chain().contains("/no/such/folder"), "{}", error.chain());
    }
}
