//! The control group of a container, read from the kernel's files (rows H40 and H43).

mod v1;
mod v2;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use corten_types::{Error, Result};
use prost_types::Any;

use crate::events::any;

/// Where control groups are mounted.
const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// The magic number of a version 2 hierarchy.
const VERSION_2_MAGIC: u64 = 0x6367_7270;

/// How deep groups below a container's own are followed.
const MAX_DEPTH: usize = 32;

/// A container's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// One folder for each controller.
    V1(BTreeMap<String, PathBuf>),
    /// One folder.
    V2(PathBuf),
}

impl Cgroup {
    /// The group that `pid` is in. `None` if it is in no group of its own: figures of the whole machine are not a container's.
    pub(crate) fn of_process(pid: u32) -> Result<Option<Self>> {
        let path = format!("/proc/{pid}/cgroup");
        let memberships =
            fs::read_to_string(&path).map_err(|error| Error::io(format!("read {path}"), error))?;
        if is_version_2() {
            return Ok(v2::folder(&memberships, Path::new(MOUNT_POINT)).map(Self::V2));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| Error::io("read /proc/self/mountinfo", error))?;
        let folders = v1::folders(&memberships, &mounts);
        Ok((!folders.is_empty()).then_some(Self::V1(folders)))
    }

    /// The folder of the memory controller.
    pub(crate) fn memory_folder(&self) -> Option<PathBuf> {
        match self {
            Self::V1(folders) => folders.get("memory").cloned(),
            Self::V2(folder) => Some(folder.clone()),
        }
    }

    /// All figures, as the message of the hierarchy's version.
    ///
    /// # Errors
    /// `NotFound`: the group is gone.
    pub(crate) fn metrics(&self) -> Result<Any> {
        let gone = || Error::not_found("cgroup does not exist");
        match self {
            Self::V1(folders) if folders.values().any(|folder| folder.exists()) => {
                Ok(any(&v1::metrics(folders)))
            }
            Self::V2(folder) if folder.exists() => Ok(any(&v2::metrics(folder))),
            _ => Err(gone()),
        }
    }

    /// Every process in the group and the groups below it. Empty if the group is gone.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let folder = match self {
            Self::V1(folders) => ["pids", "devices", "memory"]
                .iter()
                .find_map(|name| folders.get(*name))
                .or(folders.values().next()),
            Self::V2(folder) => Some(folder),
        };
        let mut pids = Vec::new();
        if let Some(folder) = folder {
            collect_pids(folder, MAX_DEPTH, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Lets every controller reach the container's group (version 2 only). containerd does so after each create.
    pub(crate) fn enable_controllers(&self) -> io::Result<()> {
        match self {
            Self::V1(_) => Ok(()),
            Self::V2(folder) => v2::enable_controllers(Path::new(MOUNT_POINT), folder),
        }
    }
}

/// Moves `pid` into the group `path`, in every hierarchy that has it (the option `shim_cgroup`, row H17).
pub(crate) fn join(path: &str, pid: u32) -> Result<()> {
    let relative = path.trim_start_matches('/');
    let failed = |error: io::Error| Error::io(format!("move the shim into the cgroup {path}"), error);
    if is_version_2() {
        return add_process(&Path::new(MOUNT_POINT).join(relative), pid).map_err(failed);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    let mut joined = false;
    for (_, mount_point) in v1::mount_points(&mounts) {
        let folder = mount_point.join(relative);
        if folder.exists() {
            add_process(&folder, pid).map_err(failed)?;
            joined = true;
        }
    }
    if joined { Ok(()) } else { Err(Error::not_found(format!("load cgroup {path}"))) }
}

fn add_process(folder: &Path, pid: u32) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(folder.join("cgroup.procs"))?
        .write_all(pid.to_string().as_bytes())
}

fn is_version_2() -> bool {
    rustix::fs::statfs(MOUNT_POINT)
        .is_ok_and(|filesystem| u64::try_from(filesystem.f_type) == Ok(VERSION_2_MAGIC))
}

fn collect_pids(folder: &Path, depth: usize, pids: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), depth - 1, pids);
        }
    }
}

/// The number in a file. What cannot be read is 0, and `max` is the largest number.
fn number(folder: &Path, name: &str) -> u64 {
    read(folder, name).as_deref().and_then(parse_number).unwrap_or_default()
}

fn parse_number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        // Version 1 writes no limit of swap as -1.
        text if text.starts_with('-') => Some(0),
        text => text.parse().ok(),
    }
}

fn read(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok()
}

/// The number behind `key` in lines of keys and numbers.
pub(crate) fn key_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| parse_number(value)).flatten()
    })
}

/// A file of keys and numbers.
struct Table(String);

impl Table {
    fn read(folder: &Path, name: &str) -> Option<Self> {
        read(folder, name).map(Self)
    }

    /// The number behind `key`; 0 if it is not there.
    fn get(&self, key: &str) -> u64 {
        key_value(&self.0, key).unwrap_or_default()
    }
}

/// The sizes of huge pages as the kernel names them in files: `2MB`, `1GB`.
fn huge_page_sizes() -> Vec<String> {
    let mut sizes: Vec<u64> = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(huge_page_name).collect()
}

fn huge_page_name(kilobytes: u64) -> String {
    match kilobytes {
        size if size >= 1 << 20 => format!("{}GB", size >> 20),
        size if size >= 1 << 10 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    }
}

#[cfg(test)]
#[path = "cgroup/tests.rs"]
mod tests;
