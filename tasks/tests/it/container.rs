//! What tests run: a root filesystem with busybox, and specs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use corten_types::{Any, Mount};
use serde_json::{Value, json};

const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// Makes a root filesystem below `folder`.
pub(crate) fn make_rootfs(folder: &Path) -> PathBuf {
    let rootfs = folder.join("image");
    for name in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    fs::copy("/usr/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static is installed");
    for name in ["sh", "sleep", "cat", "echo", "true", "false", "kill"] {
        symlink("busybox", rootfs.join("bin").join(name)).unwrap();
    }
    rootfs
}

/// The mount that puts it on a task's rootfs.
pub(crate) fn rootfs_mount(rootfs: &Path) -> Mount {
    Mount {
        kind: "bind".into(),
        source: rootfs.display().to_string(),
        options: vec!["rbind".into(), "rw".into()],
        ..Mount::default()
    }
}

pub(crate) fn spec_json(namespace: &str, id: &str, arguments: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]
            },
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{namespace}/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
            ]
        }
    })
}

pub(crate) fn spec_any(spec: &Value) -> Any {
    Any { type_url: SPEC_TYPE.into(), value: spec.to_string().into_bytes().into() }
}

pub(crate) fn process_any(arguments: &[&str]) -> Any {
    let process = json!({"terminal": false, "user": {"uid": 0, "gid": 0}, "args": arguments, "env": ["PATH=/bin"], "cwd": "/"});
    Any { type_url: PROCESS_TYPE.into(), value: process.to_string().into_bytes().into() }
}
