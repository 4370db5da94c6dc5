//! `cargo xtask package`: the crates that stand alone do so.
//!
//! Every published crate is packaged. The ones that other projects are meant to take are then built one by one from nothing but
//! their packages, each with the features that it asks for itself: in the workspace, features of its neighbours help it. The tests of
//! those that storage is made of are built and run there, too.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use serde_json::Value;

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

/// Those whose tests run from their packages.
const TESTED: [&str; 5] = ["disk", "gc", "database", "content-store", "metadata"];

/// An example may have so many lines.
const EXAMPLE_LINES: usize = 20;

/// Packages all, builds each that stands alone from nothing but packages, and compiles its tests without the neighbours'.
pub(crate) fn run() -> anyhow::Result<()> {
    from_packages()?;
    step("compile the tests of each alone", || {
        ALONE.into_iter().try_for_each(|name| {
            let package = format!("corten-{name}");
            process::run(&mut cargo(&["check", "--quiet", "--all-targets", "-p", &package]))
        })
    })
}

/// Packages all, builds each that stands alone from nothing but packages, and runs the tests of some there.
pub(crate) fn from_packages() -> anyhow::Result<()> {
    step("package every published crate", || {
        let mut command = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
        for name in layers::published() {
            command.args(["-p", name]);
        }
        process::run(&mut command)
    })?;
    step("what the packages say of themselves", || ALONE.into_iter().try_for_each(describes_itself))?;
    let standalone = step("unpack the packages", Standalone::unpack)?;
    step("build each from its package", || ALONE.into_iter().try_for_each(|name| standalone.build(name)))?;
    step("run the tests of storage from its packages", || {
        TESTED.into_iter().try_for_each(|name| standalone.test(name))
    })
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

/// The packages, unpacked into a workspace of their own, where they find each other. It stays, so that only what changed is built
/// the next time.
struct Standalone {
    folder: PathBuf,
    target: PathBuf,
}

impl Standalone {
    fn unpack() -> anyhow::Result<Self> {
        let target = build::target()?;
        let folder = target.join("standalone");
        let fresh = target.join("standalone.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        let version = env!("CARGO_PKG_VERSION");
        let (mut members, mut patches) = (String::new(), String::new());
        for name in layers::published() {
            let package = target.join(format!("package/{name}-{version}.crate"));
            let unpack = Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(&fresh).status()?;
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
        put(&fresh.join("Cargo.toml"), manifest.as_bytes())?;
        put(&fresh.join("Cargo.lock"), &fs::read(workspace().join("Cargo.lock"))?)?;
        add_dropped_dependencies(&fresh)?;
        bring_up_to_date(&fresh, &folder)?;
        fs::remove_dir_all(&fresh)?;
        Ok(Self { folder, target })
    }

    fn build(&self, name: &str) -> anyhow::Result<()> {
        self.cargo(&["check", "--quiet", "--lib", "-p", &format!("corten-{name}")])
            .with_context(|| format!("{name} does not stand alone"))
    }

    fn test(&self, name: &str) -> anyhow::Result<()> {
        self.cargo(&["test", "--quiet", "--lib", "--tests", "-p", &format!("corten-{name}")])
            .with_context(|| format!("the tests of {name} do not pass from its package"))
    }

    fn cargo(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut command = cargo(words);
        command.current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        process::run(command.env("CORTEN_TEST_ROOT", "1"))
    }
}

/// Gives the tests what they use of other packages: cargo drops dev-dependencies that have a path only.
fn add_dropped_dependencies(folder: &Path) -> anyhow::Result<()> {
    let text = process::output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("read cargo metadata")?;
    let version = env!("CARGO_PKG_VERSION");
    let tested = TESTED.map(|name| format!("corten-{name}"));
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = tested.iter().find(|name| package["name"] == name.as_str()) else { continue };
        let path = folder.join(format!("{name}-{version}/Cargo.toml"));
        let mut manifest = fs::read_to_string(&path)?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"] == "dev" && dependency["path"].is_string() {
                let features = &dependency["features"];
                // Others are found as everybody finds them, which the workspace leads to the packages.
                let source =
                    if used == name { "path = \".\"".to_owned() } else { format!("version = \"{version}\"") };
                manifest += &format!("\n[dev-dependencies.{used}]\n{source}\nfeatures = {features}\n");
            }
        }
        put(&path, manifest.as_bytes())?;
    }
    Ok(())
}

/// Makes `old` what `fresh` is. Files that are the same stay: all in a package have one date, by which cargo could not tell.
fn bring_up_to_date(fresh: &Path, old: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(old)?;
    let mut wanted = BTreeSet::new();
    for entry in fs::read_dir(fresh)? {
        let (from, to) = {
            let name = entry?.file_name();
            wanted.insert(name.clone());
            (fresh.join(&name), old.join(&name))
        };
        if from.is_dir() {
            bring_up_to_date(&from, &to)?;
        } else {
            let bytes = fs::read(&from)?;
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                put(&to, &bytes)?;
            }
        }
    }
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            _ if wanted.contains(&entry.file_name()) => {}
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a scratch file need not survive a power cut")]
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
