//! Ways to damage a store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::world::World;

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Blob,
    Tree,
    Manifest,
    Metadata,
    MetadataLog,
    Metastore,
    MetastoreLog,
    Marker,
    Identity,
    Ingest,
}

const TARGETS: [Target; 10] = [
    Target::Blob,
    Target::Tree,
    Target::Manifest,
    Target::Metadata,
    Target::MetadataLog,
    Target::Metastore,
    Target::MetastoreLog,
    Target::Marker,
    Target::Identity,
    Target::Ingest,
];

/// How it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Flip,
    Truncate,
    Delete,
    Extra,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) target: Target,
    pub(crate) way: Way,
    /// From the root of the store.
    pub(crate) path: PathBuf,
    /// Whether anything is different now.
    pub(crate) is_done: bool,
}

impl Damage {
    /// Damages something at random.
    pub(crate) fn random(world: &World, random: &mut StdRng) -> Self {
        let target = *TARGETS.choose(random).unwrap();
        let way = match random.random_range(0..10) {
            0..5 => Way::Flip,
            5..7 => Way::Truncate,
            7..9 => Way::Delete,
            _ => Way::Extra,
        };
        let files = candidates(world, target);
        let Some(file) = files.choose(random) else {
            return Self { target, way, path: PathBuf::new(), is_done: false };
        };
        let before = fs::read(file).unwrap();
        let path = if way == Way::Extra { extra(file, target, random) } else { file.clone() };
        match way {
            Way::Flip => flip(file, random),
            Way::Truncate => truncate(file, random),
            Way::Delete => fs::remove_file(file).unwrap(),
            Way::Extra => fs::write(&path, b"nobody knows this").unwrap(),
        }
        let is_done = way == Way::Extra || fs::read(file).ok().as_deref() != Some(&before);
        Self { target, way, path: path.strip_prefix(world.root.path()).unwrap().to_owned(), is_done }
    }

    /// Whether it is in what databases are made of.
    pub(crate) fn is_of_a_database(&self) -> bool {
        matches!(
            self.target,
            Target::Metadata
                | Target::MetadataLog
                | Target::Metastore
                | Target::MetastoreLog
                | Target::Marker
        )
    }
}

fn candidates(world: &World, target: Target) -> Vec<PathBuf> {
    let below = |folder: &str| {
        let files = world.files();
        let found: Vec<PathBuf> = files.into_keys().filter(|path| path.starts_with(folder)).collect();
        found.into_iter().map(|path| world.root.path().join(path)).collect::<Vec<_>>()
    };
    let named = |names: &[&str]| {
        let paths = names.iter().map(|name| world.path(name));
        paths.filter(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 0)).collect()
    };
    let is_manifest = |path: &PathBuf| path.ends_with("manifest") && !path.to_string_lossy().contains("/fs/");
    match target {
        Target::Blob => below("content/blobs"),
        Target::Tree => {
            // An active snapshot has no manifest: its files belong to its container.
            let trees = below("overlayfs/snapshots").into_iter();
            trees
                .filter(|path| {
                    let tree = path.ancestors().find(|above| above.ends_with("fs")).and_then(Path::parent);
                    tree.is_some_and(|tree| tree.join("manifest").exists())
                })
                .collect()
        }
        Target::Manifest => below("overlayfs/snapshots").into_iter().filter(is_manifest).collect(),
        Target::Ingest => below("content/ingest"),
        Target::Metadata => named(&["meta/meta.db"]),
        Target::MetadataLog => named(&["meta/meta.db-wal"]),
        Target::Metastore => named(&["overlayfs/metastore.db"]),
        Target::MetastoreLog => named(&["overlayfs/metastore.db-wal"]),
        Target::Marker => named(&[
            "meta/meta.db.marker",
            "overlayfs/metastore.db.marker",
            "meta/meta.db-shm",
            "overlayfs/metastore.db-shm",
        ]),
        Target::Identity => named(&["content/metadata-id", "overlayfs/metadata-id", "overlayfs/store-id"]),
    }
}

fn flip(file: &Path, random: &mut StdRng) {
    let mut bytes = fs::read(file).unwrap();
    if bytes.is_empty() {
        return;
    }
    for _ in 0..random.random_range(1..17) {
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
    }
    replace(file, &bytes);
}

fn truncate(file: &Path, random: &mut StdRng) {
    let bytes = fs::read(file).unwrap();
    if !bytes.is_empty() {
        replace(file, &bytes[..random.random_range(0..bytes.len())]);
    }
}

/// Blobs are read-only.
fn replace(file: &Path, bytes: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

/// The name of a file that nobody made, beside `file`.
fn extra(file: &Path, target: Target, random: &mut StdRng) -> PathBuf {
    let folder = file.parent().unwrap();
    match target {
        Target::Blob => folder.join(format!("{:064x}", random.random::<u128>())),
        _ => folder.join(format!("extra-{}", random.random::<u32>())),
    }
}
