//! A bundle with busybox in a temporary folder, and a runtime that keeps its state there.
#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use corten_runtime_runc::Runtime;
use serde_json::{Value, json};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A container that is deleted by force when the test ends, however it ends.
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) runtime: Runtime,
}

impl Bundle {
    pub(crate) fn new(arguments: &[&str], terminal: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id = format!("corten-rr-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bin = folder.path().join("rootfs/bin");
        for name in ["bin", "proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(folder.path().join("rootfs").join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "echo", "true", "tty", "stty"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let runtime =
            Runtime::new("runc", folder.path().join("state")).with_log(folder.path().join("log.json"));
        let bundle = Self { folder, id, runtime };
        bundle.write_config(&config(&bundle.id, arguments, terminal));
        bundle
    }

    pub(crate) fn write_config(&self, config: &Value) {
        std::fs::write(self.path().join("config.json"), config.to_string()).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.path().join("init.pid")
    }

    /// Waits until the runtime reports `status`.
    pub(crate) async fn until(&self, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let state = self.runtime.state(&self.id).await.unwrap();
            if state.status == status {
                return;
            }
            assert!(Instant::now() < deadline, "{} is {}, not {status}", self.id, state.status);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = std::process::Command::new("runc")
            .arg("--root")
            .arg(self.folder.path().join("state"))
            .args(["delete", "--force", &self.id])
            .output();
    }
}

pub(crate) fn config(id: &str, arguments: &[&str], terminal: bool) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "corten",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]
        }
    })
}
