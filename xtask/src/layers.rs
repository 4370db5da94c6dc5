//! The map of crates: an edge goes only to a strictly lower rank, and some things are never reached.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process::{self, cargo};

/// The rank of every published crate (ARCHITECTURE.md, "The map").
const RANKS: [(&str, u8); 22] = [
    ("corten-types", 0),
    ("corten-filter", 0),
    ("corten-disk", 0),
    ("corten-gc", 0),
    ("corten-database", 1),
    ("corten-mount", 1),
    ("corten-events", 1),
    ("corten-api", 1),
    ("corten-content-store", 2),
    ("corten-snapshotter", 2),
    ("corten-mount-manager", 2),
    ("corten-runtime-runc", 2),
    ("corten-snapshotter-overlay", 3),
    ("corten-snapshotter-native", 3),
    ("corten-diff", 3),
    ("corten-metadata", 3),
    ("corten-shim", 3),
    ("corten-proxy", 4),
    ("corten-tasks", 4),
    ("corten-fsck", 4),
    ("corten-server", 5),
    ("corten-daemon", 6),
];

/// The words that everything else is made of: other crates of rank 0 may use them.
const VOCABULARY: &str = "corten-types";

/// What a crate must not reach, however indirectly.
const ABSENCES: [(&str, &[&str]); 17] = [
    ("corten-types", &["tokio", "tonic", "prost"]),
    ("corten-filter", &["tokio", "tonic", "prost"]),
    ("corten-gc", &["tokio", "tonic", "prost"]),
    ("corten-disk", &["tokio", "tonic", "prost"]),
    ("corten-database", &["tokio", "tonic", "prost"]),
    ("corten-mount", &["tokio", "tonic", "prost"]),
    ("corten-events", &["tonic", "prost"]),
    ("corten-content-store", &["rusqlite", "tonic", "prost"]),
    ("corten-snapshotter", &["tonic", "prost"]),
    ("corten-mount-manager", &["tonic", "prost"]),
    ("corten-runtime-runc", &["tonic", "prost"]),
    ("corten-snapshotter-overlay", &["tonic", "prost"]),
    ("corten-snapshotter-native", &["tonic", "prost"]),
    ("corten-metadata", &["tonic", "prost"]),
    ("corten-diff", &["tonic", "prost"]),
    ("corten-fsck", &["tonic", "prost"]),
    ("corten-shim", &["tonic", "hyper"]),
];

/// Crates that nothing in the project may use: the reasons are in ARCHITECTURE.md.
const BANNED: [&str; 5] = ["tokio-tar", "async-tar", "sled", "containerd-snapshots", "tokio-uring"];

/// The names of the crates that are published.
pub(crate) fn published() -> impl Iterator<Item = &'static str> {
    RANKS.iter().map(|(name, _)| *name)
}

/// Fails with every edge that climbs and every absence that is broken.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut faults = climbing_edges()?;
    for (package, absent) in ABSENCES {
        let reached = tree(package)?;
        for name in absent.iter().filter(|name| reached.iter().any(|reached| reached == *name)) {
            faults.push(format!("{package} reaches {name}"));
        }
    }
    let everything = tree("corten-daemon")?;
    for name in BANNED.iter().filter(|name| everything.iter().any(|reached| reached == *name)) {
        faults.push(format!("{name} is banned and corten-daemon reaches it"));
    }
    if !faults.is_empty() {
        bail!("the map is broken:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn climbing_edges() -> anyhow::Result<Vec<String>> {
    let ranks: BTreeMap<&str, u8> = RANKS.into();
    let text = process::output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("read cargo metadata")?;
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let Some(rank) = ranks.get(name) else {
            faults.push(format!("{name} has no rank in xtask/src/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let Some(below) = ranks.get(used) else { continue };
            if dependency["kind"] == "dev" {
                if dependency["req"] != "*" {
                    faults.push(format!("{name}'s dev-dependency {used} has a version; give its path only"));
                }
            } else if below >= rank && (used != VOCABULARY || name == VOCABULARY) {
                faults.push(format!("{name} (rank {rank}) uses {used} (rank {below})"));
            }
        }
    }
    Ok(faults)
}

/// Every crate that `package` reaches without its dev-dependencies.
fn tree(package: &str) -> anyhow::Result<Vec<String>> {
    let text = process::output(&mut cargo(&[
        "tree",
        "-p",
        package,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}
