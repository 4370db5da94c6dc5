//! Bundles with busybox.
#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::path::Path;

use serde_json::{Value, json};

/// Programs that containers find in their `/bin`.
pub(crate) const APPLETS: [&str; 17] = [
    "sh", "sleep", "cat", "echo", "true", "false", "id", "stty", "tty", "dd", "head", "wc", "seq", "kill",
    "env", "ps", "readlink",
];

/// Fills `rootfs` with busybox.
pub(crate) fn fill_rootfs(rootfs: &Path) {
    for name in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
        std::fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        .unwrap();
}

/// A process as execs and specifications have it.
pub(crate) fn process(arguments: &[&str], terminal: bool) -> Value {
    json!({
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": arguments,
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "noNewPrivileges": true
    })
}

/// A specification. `change` may alter it before it is written.
pub(crate) fn write_config(
    bundle: &Path,
    cgroup: &str,
    arguments: &[&str],
    terminal: bool,
    change: impl FnOnce(&mut Value),
) {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": process(arguments, terminal),
        "root": {"path": "rootfs"},
        "hostname": "corten",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]
        }
    });
    change(&mut config);
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
}
