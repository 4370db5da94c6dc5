//! `cargo xtask package`: the crates that stand alone do so.
//!
//! Every published crate is packaged. The ones that other projects are meant to take are then built one by one from nothing but
//! their packages, each with the features that it asks for itself: in the workspace, features of its neighbours help it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};

use crate::{
    build, layers,
    process::{self, cargo, step, workspace},
};

/// The crates that other projects are meant to take.
const ALONE: [&str; 12] = [
    "content-store",
    "metadata",
    "gc",
    "database",
    "disk",
    "diff",
    "snapshotter",
    "snapshotter-overlay",
    "snapshotter-native",
    "mount",
    "mount-manager",
    "fsck",
];

/// An example may have so many lines.
const EXAMPLE_LINES: usize = 20;

/// Packages all, builds each that stands alone from nothing but packages, and compiles its tests without the neighbours'.
pub(crate) fn run() -> anyhow::Result<()> {
    build_from_packages()?;
    step("compile the tests of each alone", || {
        ALONE.into_iter().try_for_each(|name| {
            let package = format!("corten-{name}");
            process::run(&mut cargo(&["check", "--quiet", "--all-targets", "-p", &package]))
        })
    })
}

/// Packages all, and builds each that stands alone from nothing but packages.
pub(crate) fn build_from_packages() -> anyhow::Result<()> {
    step("package every published crate", || {
        let mut command = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
        for name in layers::published() {
            command.args(["-p", name]);
        }
        process::run(&mut command)
    })?;
    step("what the packages say of themselves", || ALONE.into_iter().try_for_each(describes_itself))?;
    step("build each from its package", from_packages)
}

/// The manifest has what a stranger looks for, and the README a short example, which the documentation tests run.
fn describes_itself(name: &str) -> anyhow::Result<()> {
    let folder = workspace().join(name);
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    for field in ["description", "license", "keywords", "categories"] {
        if !manifest.lines().any(|line| line.starts_with(field)) {
            bail!("{name}/Cargo.toml has no {field}");
        }
    }
    let readme = fs::read_to_string(folder.join("README.md"))?;
    let example = readme.split("```").nth(1).with_context(|| format!("{name}/README.md has no example"))?;
    let (language, example) = example.split_once('\n').unwrap_or_default();
    if !["", "rust"].contains(&language) {
        bail!("the first example of {name}/README.md is marked `{language}`: nobody compiles it");
    }
    let lines = example.lines().count();
    if lines > EXAMPLE_LINES {
        bail!("the example of {name}/README.md has {lines} lines; at most {EXAMPLE_LINES} are read");
    }
    Ok(())
}

/// Unpacks the packages into a workspace of their own, where they find each other, and builds one at a time.
fn from_packages() -> anyhow::Result<()> {
    let target = build::target()?;
    let folder = target.join("standalone");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let version = env!("CARGO_PKG_VERSION");
    let (mut members, mut patches) = (String::new(), String::new());
    for name in layers::published() {
        let package = target.join(format!("package/{name}-{version}.crate"));
        // Packages carry one date for everything; cargo must see that the files are new.
        let unpack = Command::new("tar").arg("-xzmf").arg(&package).arg("-C").arg(&folder).status()?;
        if !unpack.success() {
            bail!("{} cannot be unpacked", package.display());
        }
        members += &format!("\"{name}-{version}\", ");
        patches += &format!("{name} = {{ path = \"{name}-{version}\" }}\n");
    }
    let own = fs::read_to_string(workspace().join("Cargo.toml"))?;
    let profiles = own.find("[profile.").map_or("", |begin| &own[begin..]);
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{members}]\n\n[patch.crates-io]\n{patches}\n{profiles}"
    );
    put(&folder.join("Cargo.toml"), manifest.as_bytes())?;
    put(&folder.join("Cargo.lock"), &fs::read(workspace().join("Cargo.lock"))?)?;
    for name in ALONE {
        let mut command = cargo(&["check", "--quiet", "--lib", "-p", &format!("corten-{name}")]);
        process::run(command.current_dir(&folder).env("CARGO_TARGET_DIR", &target))
            .with_context(|| format!("{name} does not stand alone"))?;
    }
    Ok(fs::remove_dir_all(&folder)?)
}

#[expect(clippy::disallowed_methods, reason = "a scratch file need not survive a power cut")]
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
