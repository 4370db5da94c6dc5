//! What a daemon left behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Daemon, eventually};

/// Asserts that nothing is left of a daemon that ended and whose containers were removed.
///
/// Shims end a moment after their last container; this waits for what is on its way.
///
/// # Errors
/// Names everything that is left.
pub fn assert_nothing_left(daemon: &Daemon) -> anyhow::Result<()> {
    let mut left = Vec::new();
    let gone = eventually("shims, mounts and sockets to go", || {
        left = what_is_left(daemon);
        left.is_empty().then_some(())
    });
    gone.map_err(|error| error.context(format!("left behind: {}\n{}", left.join(", "), daemon.log())))
}

/// Shims, mounts, loop devices, cgroups, bundles, sockets and runc's folders of the daemon's namespace.
#[must_use]
pub fn what_is_left(daemon: &Daemon) -> Vec<String> {
    let mut left: Vec<String> = shims(daemon).iter().map(|pid| format!("shim {pid}")).collect();
    left.extend(mounts(daemon.scratch()).iter().map(|mount| format!("mount {}", mount.display())));
    left.extend(loop_devices(daemon.scratch()).iter().map(|file| format!("loop device of {file}")));
    left.extend(cgroups(daemon).iter().map(|path| format!("cgroup {}", path.display())));
    let bundles = daemon.path("state/io.containerd.runtime.v2.task");
    for namespace in entries(&bundles) {
        left.extend(entries(&namespace).iter().map(|bundle| format!("bundle {}", bundle.display())));
    }
    let runc = Path::new("/run/containerd/runc").join(daemon.namespace());
    left.extend(entries(&runc).iter().map(|folder| format!("runc {}", folder.display())));
    for id in daemon.containers() {
        let socket = socket(daemon, &id);
        if socket.exists() {
            left.push(format!("socket {}", socket.display()));
        }
    }
    left
}

/// Ends and removes what a failed test left; errors mean that it is gone.
pub(crate) fn clean_up(daemon: &Daemon) {
    for shim in shims(daemon) {
        for pid in children(shim).into_iter().chain([shim]) {
            kill(pid);
        }
    }
    for mount in mounts(daemon.scratch()).iter().rev() {
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
    }
    for id in daemon.containers() {
        drop(fs::remove_file(socket(daemon, &id)));
    }
    drop(fs::remove_dir_all(Path::new("/run/containerd/runc").join(daemon.namespace())));
    // runc removes a container's cgroup, and leaves the namespace's above it.
    for controller in entries(Path::new("/sys/fs/cgroup")) {
        let above = controller.join(daemon.namespace());
        for cgroup in entries(&above) {
            drop(fs::remove_dir(cgroup));
        }
        drop(fs::remove_dir(above));
    }
}

/// Shims that were started for this daemon: their command line has its socket.
fn shims(daemon: &Daemon) -> Vec<i32> {
    let address = daemon.address().display().to_string();
    processes(|command| command.contains(&address) && command[0].contains("containerd-shim"))
}

fn children(parent: i32) -> Vec<i32> {
    let tasks = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(tasks).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn processes(wanted: impl Fn(&[String]) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in entries(Path::new("/proc")) {
        let Some(pid) = entry.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(line) = fs::read(entry.join("cmdline")) else { continue };
        let command: Vec<String> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if !command.is_empty() && wanted(&command) {
            found.push(pid);
        }
    }
    found
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Files below a folder that loop devices stand for.
#[must_use]
pub fn loop_devices(below: &Path) -> Vec<String> {
    let files = entries(Path::new("/sys/block")).into_iter().filter_map(|device| {
        let file = fs::read_to_string(device.join("loop/backing_file")).ok()?;
        Some(file.trim_end().to_owned())
    });
    files.filter(|file| Path::new(file).starts_with(below)).collect()
}

/// Mounts below a folder, in the order of mounting.
#[must_use]
pub fn mounts(below: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(below))
        .collect()
}

fn cgroups(daemon: &Daemon) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for controller in entries(Path::new("/sys/fs/cgroup")) {
        let namespace = controller.join(daemon.namespace());
        found.extend(entries(&namespace).into_iter().filter(|path| path.is_dir()));
    }
    found
}

/// Where a shim listens for a container: named after the daemon's address, the namespace and the id (row H12).
fn socket(daemon: &Daemon, id: &str) -> PathBuf {
    let name = daemon.address().join(daemon.namespace()).join(id);
    let hash: String =
        Sha256::digest(name.display().to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new("/run/containerd/s").join(hash)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}
