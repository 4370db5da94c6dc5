//! The newest containerd that Debian has, beside the tree and not installed: a scratch configuration of apt, for the suite
//! `sid` of the mirror that this machine uses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::process;

const SUITE: &str = "sid";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The two programs that the benchmarks use.
pub(crate) struct Containerd {
    pub(crate) daemon: PathBuf,
    pub(crate) shim: PathBuf,
}

/// Finds it in `cache` (absolute), or puts it there; where that is impossible, says so and takes the installed one.
pub(crate) fn newest(cache: &Path) -> Containerd {
    match unpacked(cache) {
        Ok(containerd) => containerd,
        Err(error) => {
            println!(
                "    Debian's newest containerd cannot be had, so the installed one is measured: {error:#}"
            );
            in_folder(Path::new("/usr/bin"))
        }
    }
}

fn unpacked(cache: &Path) -> anyhow::Result<Containerd> {
    let folder = cache.join("containerd");
    let programs = in_folder(&folder.join("root/usr/bin"));
    if !programs.daemon.exists() {
        fetch(&folder)?;
    }
    let version = process::output(Command::new(&programs.daemon).arg("--version"))?;
    println!("    {}", version.trim());
    Ok(programs)
}

fn in_folder(folder: &Path) -> Containerd {
    Containerd { daemon: folder.join("containerd"), shim: folder.join("containerd-shim-runc-v2") }
}

/// Downloads the package and unpacks it. Nothing of the machine's own apt is touched.
#[expect(clippy::disallowed_methods, reason = "a cache need not survive a power cut")]
fn fetch(folder: &Path) -> anyhow::Result<()> {
    let mirror = mirror()?;
    for name in ["sources", "state/lists/partial", "cache/archives/partial", "package"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let source =
        format!("Types: deb\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n");
    fs::write(folder.join("sources/newest.sources"), source)?;
    fs::write(folder.join("state/status"), "")?;
    process::run(apt(folder).args(["update", "-qq"]))?;
    process::run(apt(folder).args(["download", "-qq", "containerd"]).current_dir(folder.join("package")))?;
    let package = fs::read_dir(folder.join("package"))?.next().context("apt downloaded nothing")??.path();
    // Whole or not there: the folder of the programs appears last.
    let unpacked = folder.join("unpacked");
    process::run(Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
    fs::rename(&unpacked, folder.join("root"))?;
    Ok(())
}

fn apt(folder: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let options = [
        ("Dir::Etc::SourceList", "/dev/null".into()),
        ("Dir::Etc::SourceParts", folder.join("sources")),
        ("Dir::State", folder.join("state")),
        ("Dir::State::status", folder.join("state/status")),
        ("Dir::Cache", folder.join("cache")),
    ];
    for (name, path) in options {
        command.arg("-o").arg(format!("{name}={}", path.display()));
    }
    command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
    command
}

/// Debian's mirror, as this machine's sources name it: the first address that ends in `/debian`.
fn mirror() -> anyhow::Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let mut words = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'));
    match words.find(|word| word.contains("://") && word.ends_with("/debian")) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("no mirror of Debian in /etc/apt"),
    }
}
