//! What must not be left behind.

use std::path::Path;

/// Processes whose command line contains `needle`, as pairs of id and command line.
pub(crate) fn processes_with(needle: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) && pid != std::process::id() {
            found.push((pid, line));
        }
    }
    found
}

/// Whether any mount's line contains `needle`.
pub(crate) fn is_mounted(needle: &str) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(needle)
}

/// Folders named `name` in any hierarchy of cgroups.
pub(crate) fn cgroups_named(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let root = Path::new("/sys/fs/cgroup");
    let mut candidates = vec![root.join(name)];
    candidates.extend(std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path().join(name)));
    for folder in candidates {
        // The namespace's own folder is the runtime's to keep; what is in it are containers.
        let inner = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        found.extend(
            inner.filter(|entry| entry.path().is_dir()).map(|entry| entry.path().display().to_string()),
        );
    }
    found
}

/// Removes the empty folders that runtimes keep for a namespace.
pub(crate) fn remove_namespace_folders(namespace: &str) {
    let _ = std::fs::remove_dir(format!("/run/containerd/runc/{namespace}"));
    let root = Path::new("/sys/fs/cgroup");
    let _ = std::fs::remove_dir(root.join(namespace));
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(entry.path().join(namespace));
    }
}

/// Whether a process has ended; its parent may not have noticed yet.
pub(crate) fn ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// How many descriptors a process has open.
pub(crate) fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
