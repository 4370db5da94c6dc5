//! What the machine must have: rights and Debian packages.

use std::{path::Path, process::Command};

use anyhow::bail;

use crate::process;

/// A package, and the file that shows that it is there.
pub(crate) struct Package {
    name: &'static str,
    shows: &'static str,
}

const fn package(name: &'static str, shows: &'static str) -> Package {
    Package { name, shows }
}

/// What building and the demo need.
pub(crate) const DEMO: &[Package] = &[
    package("gcc", "/usr/bin/gcc"),
    package("runc", "/usr/sbin/runc"),
    package("busybox-static", "/usr/share/doc/busybox-static"),
    package("containerd", "/usr/bin/ctr"),
];

/// What the tests need besides.
pub(crate) const TEST: &[Package] = &[
    package("docker-registry", "/usr/bin/docker-registry"),
    package("umoci", "/usr/bin/umoci"),
    package("libarchive-tools", "/usr/bin/bsdtar"),
    package("python3-grpcio", "/usr/share/doc/python3-grpcio"),
    package("iproute2", "/usr/share/doc/iproute2"),
    package("e2fsprogs", "/sbin/mkfs.ext4"),
    package("xfsprogs", "/sbin/mkfs.xfs"),
    package("btrfs-progs", "/sbin/mkfs.btrfs"),
    package("erofs-utils", "/usr/bin/mkfs.erofs"),
];

/// Installs the packages that are missing; says in one sentence what is needed where that is impossible.
pub(crate) fn ensure(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !Path::new(package.shows).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("the packages {} are missing; install them or run this as root", missing.join(", "));
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "{} are missing and this is no Debian; install the packages that your distribution has for them",
            missing.join(", ")
        );
    }
    println!("installing {}", missing.join(", "));
    process::run(apt().args(["update", "-qq"]))?;
    process::run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
}

/// Fails with a sentence if this is not root.
pub(crate) fn require_root(what: &str) -> anyhow::Result<()> {
    if !is_root() {
        bail!("{what} mounts filesystems and starts containers: run it as root");
    }
    Ok(())
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// apt-get, without questions, and without starting the services that packages bring.
fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command
}
