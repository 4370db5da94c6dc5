//! Golden trees: layers of many makers, unpacked by Debian's containerd, one after the other, and by Corten, into the same
//! snapshotter. The trees are the same, or the difference is listed with its reason.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stop at the first surprise")]

mod by_hand;
mod by_tools;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use corten_diff::unpack::{UnpackOptions, Whiteouts, unpack_before_parents};
use corten_proxy::{Connection, Scope, SnapshotterProxy};
use corten_snapshotter::{SnapshotKeeper, SnapshotWriter};
use corten_tests::{Daemon, DaemonOptions, Image, Kind, root_or_skip};
use corten_types::Mount;
use sha2::{Digest, Sha256};
use tree::{Tree, describe};

/// An image, and where its trees differ on purpose.
struct Case {
    name: String,
    /// Archives, the lowest first.
    layers: Vec<Vec<u8>>,
    /// Both refuse it.
    is_refused: bool,
    deviations: Vec<Deviation>,
}

/// What differs on purpose: exactly this, and it does differ.
struct Deviation {
    /// The snapshotter.
    on: &'static str,
    /// The paths whose descriptions differ, or [`REFUSED`].
    paths: &'static [&'static str],
    reason: &'static str,
}

/// Stands for the difference that containerd does not take the layer.
const REFUSED: &str = "(refused by containerd)";

impl Case {
    fn new(name: impl Into<String>, layers: Vec<Vec<u8>>) -> Self {
        Self { name: name.into(), layers, is_refused: false, deviations: Vec::new() }
    }

    /// Lists a deviation.
    fn but(mut self, on: &'static str, paths: &'static [&'static str], reason: &'static str) -> Self {
        self.deviations.push(Deviation { on, paths, reason });
        self
    }

    fn refused(self) -> Self {
        Self { is_refused: true, ..self }
    }
}

fn sha256(data: &[u8]) -> String {
    let hash = Sha256::digest(data);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The trees of an image's layers, the uppermost first; or why there are none.
type Trees = Result<Vec<Tree>, String>;

const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// Imports every image into both snapshotters.
fn import(kind: Kind, folder: &Path, cases: &[Case]) -> BTreeMap<(String, &'static str), Trees> {
    let daemon = Daemon::start_with(DaemonOptions { kind, ..DaemonOptions::default() }).unwrap();
    let ctr = daemon.ctr();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = BTreeMap::new();
    for case in cases {
        let image = Image::of_layers(folder, &format!("localhost/{}:1", case.name), &case.layers).unwrap();
        for snapshotter in SNAPSHOTTERS {
            let archive = image.archive.to_str().unwrap();
            let run = ctr.run(&["images", "import", "--snapshotter", snapshotter, archive]).unwrap();
            let trees = if run.success() {
                Ok(runtime.block_on(trees(&daemon, snapshotter, image.chain.last().unwrap())))
            } else {
                Err(run.stderr)
            };
            all.insert((case.name.clone(), snapshotter), trees);
        }
        std::fs::remove_file(&image.archive).unwrap();
    }
    daemon.finish().unwrap();
    all
}

/// What lies in the folders of a view of `parent`.
async fn trees(daemon: &Daemon, snapshotter: &'static str, parent: &str) -> Vec<Tree> {
    let connection = Connection::unix(&daemon.address());
    let scope = Scope::new(&daemon.namespace().parse().unwrap());
    let snapshots = SnapshotterProxy::new(&connection, scope, snapshotter);
    // Nothing else keeps the view from being collected.
    let labels = [("containerd.io/gc.root".to_owned(), "view".to_owned())].into();
    let mounts = snapshots.view("view", parent, labels).await.unwrap();
    let trees = folders_of(&mounts).iter().map(|folder| describe(folder)).collect();
    snapshots.remove("view").await.unwrap();
    trees
}

/// The folders that a view shows, the uppermost first.
fn folders_of(mounts: &[Mount]) -> Vec<PathBuf> {
    let [mount] = mounts else { panic!("{mounts:?} is not one mount") };
    match mount.options.iter().find_map(|option| option.strip_prefix("lowerdir=")) {
        Some(lower) => lower.split(':').map(PathBuf::from).collect(),
        None => vec![PathBuf::from(&mount.source)],
    }
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut cases = by_tools::cases(folder);
    cases.extend(by_hand::cases());
    cases
}

/// What differs, by path. With `is_copied`, times of folders may differ where those of `theirs` are new: the trees are copies
/// of their parents', and containerd sets the time of a folder before it puts anything into it.
fn differences(ours: &Trees, theirs: &Trees, is_copied: bool) -> BTreeMap<String, String> {
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Ok(_), Err(error)) => return [(REFUSED.to_owned(), error.clone())].into(),
        (Err(error), Ok(_)) => return [("(refused by us)".to_owned(), error.clone())].into(),
        (Err(_), Err(_)) => return BTreeMap::new(),
    };
    assert_eq!(ours.len(), theirs.len());
    let mut all = BTreeMap::new();
    for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for path in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let (ours, theirs) = (ours.get(path), theirs.get(path));
            let is_same = match (ours, theirs) {
                (Some(ours), Some(theirs)) if is_copied && theirs.is_new_folder() => {
                    ours.without_time() == theirs.without_time()
                }
                _ => ours == theirs,
            };
            if !is_same {
                let text = format!("  folder {number} {path}:\n    ours   {ours:?}\n    theirs {theirs:?}\n");
                *all.entry(path.clone()).or_default() += text.as_str();
            }
        }
    }
    all
}

/// Says what is not as it should be.
fn judge(case: &Case, snapshotter: &str, ours: &Trees, theirs: &Trees) -> String {
    let name = format!("{} on {snapshotter}", case.name);
    if case.is_refused != (ours.is_err() && theirs.is_err()) {
        return format!("{name} is refused: {:?}, {:?}\n", ours.as_ref().err(), theirs.as_ref().err());
    }
    let is_copied = snapshotter == "native" && case.layers.len() > 1;
    let differences = differences(ours, theirs, is_copied);
    let listed = case.deviations.iter().filter(|deviation| deviation.on == snapshotter);
    let listed: BTreeMap<&str, &str> =
        listed.flat_map(|deviation| deviation.paths.iter().map(|path| (*path, deviation.reason))).collect();
    let surprises = differences.iter().filter(|(path, _)| !listed.contains_key(path.as_str()));
    let mut text: String = surprises.map(|(path, what)| format!("{name} {path}:\n{what}")).collect();
    for (path, reason) in listed.into_iter().filter(|(path, _)| !differences.contains_key(*path)) {
        text += &format!("{name} {path} does not differ, although {reason}\n");
    }
    text
}

#[test]
fn trees_are_those_that_containerd_makes() {
    if !root_or_skip() {
        return;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let cases = cases(folder.path());
    // Each of them names its archives by their contents: they need folders of their own.
    let [for_theirs, for_ours] = [(); 2].map(|()| tempfile::tempdir_in(folder.path()).unwrap());
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| import(Kind::Containerd, for_theirs.path(), &cases));
        let ours = import(Kind::Corten, for_ours.path(), &cases);
        (theirs.join().unwrap(), ours)
    });
    let mut surprises = String::new();
    for case in &cases {
        for snapshotter in SNAPSHOTTERS {
            let key = (case.name.clone(), snapshotter);
            surprises += &judge(case, snapshotter, &ours[&key], &theirs[&key]);
        }
    }
    assert!(surprises.is_empty(), "\n{surprises}");
    at_once(folder.path(), &cases, &ours);
}

/// Unpacks all layers of each image at once, and compares with what the daemon made of them one after the other.
fn at_once(folder: &Path, cases: &[Case], serial: &BTreeMap<(String, &'static str), Trees>) {
    let options =
        UnpackOptions { whiteouts: Whiteouts::Overlay { user_xattrs: false }, ..UnpackOptions::default() };
    let mut compared = 0;
    for case in cases {
        let Ok(serial) = &serial[&(case.name.clone(), "overlayfs")] else { continue };
        let scratch = tempfile::tempdir_in(folder).unwrap();
        let folders: Vec<_> =
            (0..case.layers.len()).map(|number| scratch.path().join(number.to_string())).collect();
        // The lowest layer has nothing below it, and is a plain tree.
        let unpacked: Option<Vec<_>> = std::thread::scope(|scope| {
            let unpacks: Vec<_> = case.layers[1..]
                .iter()
                .zip(&folders[1..])
                .map(|(layer, folder)| {
                    std::fs::create_dir(folder).unwrap();
                    scope.spawn(|| unpack_before_parents(&layer[..], folder, &options, None).ok())
                })
                .collect();
            std::fs::create_dir(&folders[0]).unwrap();
            corten_diff::unpack::unpack(&case.layers[0][..], &folders[0], &UnpackOptions::default()).unwrap();
            unpacks.into_iter().map(|unpack| unpack.join().unwrap()).collect()
        });
        // Layers that need those below to make sense are unpacked again when these are there.
        let Some(unpacked) = unpacked else { continue };
        for (number, (_, deferred)) in unpacked.into_iter().enumerate() {
            let below: Vec<_> = folders[..=number].iter().rev().cloned().collect();
            deferred.settle(&folders[number + 1], &below, &options, None).unwrap();
        }
        let trees = Ok(folders.iter().rev().map(|folder| describe(folder)).collect());
        let differences = differences(&trees, &Ok(serial.clone()), false);
        assert!(differences.is_empty(), "{} at once:\n{differences:#?}", case.name);
        compared += 1;
    }
    assert!(compared >= 30, "only {compared} images could be unpacked at once");
}
