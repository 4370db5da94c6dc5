//! A stock containerd on scratch folders that finds our shim in `PATH`.
#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
};

use sha2::{Digest, Sha256};

use crate::{SHIM, alone::unique, image, leaks, until};

/// A running containerd.
pub(crate) struct Containerd {
    folder: tempfile::TempDir,
    pub(crate) namespace: String,
    process: Mutex<Option<Child>>,
    ids: Mutex<Vec<String>>,
}

impl Containerd {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let bin = path.join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(SHIM, bin.join("containerd-shim-runc-v2")).unwrap();
        let text = path.display();
        let config = format!(
            "version = 2\nroot = \"{text}/root\"\nstate = \"{text}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{text}/c.sock\"\n[ttrpc]\naddress = \"{text}/c.sock.ttrpc\"\n"
        );
        std::fs::write(path.join("config.toml"), config).unwrap();
        image::write(&path.join("image.tar"));
        let daemon =
            Self { folder, namespace: unique("stock"), process: Mutex::default(), ids: Mutex::default() };
        daemon.start();
        let archive = daemon.path().join("image.tar");
        daemon.ok(&["images", "import", &archive.display().to_string()]);
        daemon
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("c.sock")
    }

    pub(crate) fn start(&self) {
        let log = File::options().append(true).create(true).open(self.path().join("log")).unwrap();
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        let child = Command::new("containerd")
            .arg("-c")
            .arg(self.path().join("config.toml"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(child);
        until("the daemon answers", || self.ctr(&["version"]).output().unwrap().status.success());
    }

    /// Kills the daemon as a fault would.
    pub(crate) fn kill(&self) {
        let mut child = self.process.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `ctr` with these arguments, killed after a minute whatever it does.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-s", "KILL", "60", "ctr", "-a"])
            .arg(self.socket())
            .args(["-n", &self.namespace])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.ctr(arguments).output().unwrap()
    }

    /// The output of a command that succeeds.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "ctr {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A container's id that the end of the test looks for.
    pub(crate) fn id(&self, name: &str) -> String {
        self.ids.lock().unwrap().push(name.to_owned());
        name.to_owned()
    }

    /// Starts a container in the background.
    pub(crate) fn run_detached(&self, name: &str, arguments: &[&str]) -> String {
        let id = self.id(name);
        let mut all = vec!["run", "-d", "--null-io", image::IMAGE, id.as_str()];
        all.extend(arguments);
        self.ok(&all);
        id
    }

    /// The shim of a container. It is ours, or the test fails.
    pub(crate) fn shim(&self, id: &str) -> u32 {
        let needle = format!("-id {id} -address {}", self.socket().display());
        let found = leaks::processes_with(&needle);
        assert_eq!(found.len(), 1, "{found:?}");
        let pid = found[0].0;
        assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), Path::new(SHIM));
        pid
    }

    /// The process id and the status of a task.
    pub(crate) fn task(&self, id: &str) -> Option<(u32, String)> {
        let listed = self.ok(&["tasks", "ls"]);
        listed.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(id))
                .then(|| (words.next().unwrap().parse().unwrap(), words.next().unwrap().to_owned()))
        })
    }

    pub(crate) fn until_stopped(&self, id: &str) {
        until("the task stops", || self.task(id).is_some_and(|(_, status)| status == "STOPPED"));
    }

    /// Kills a container, deletes it and its task.
    pub(crate) fn remove(&self, id: &str) {
        let _ = self.output(&["tasks", "kill", "-s", "9", id]);
        self.until_stopped(id);
        let _ = self.output(&["tasks", "delete", id]);
        self.ok(&["containers", "delete", id]);
    }

    fn shim_socket(&self, id: &str) -> PathBuf {
        let text = format!("{}/{}/{id}", self.socket().display(), self.namespace);
        let name: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new("/run/containerd/s").join(name)
    }

    /// Stops the daemon and asserts that nothing is left of any container.
    pub(crate) fn finish(self) {
        let scratch = self.path().display().to_string();
        let shims = format!("-address {}", self.socket().display());
        until("the end of the shims", || leaks::processes_with(&shims).is_empty());
        let bundles = self.path().join("state/io.containerd.runtime.v2.task").join(&self.namespace);
        until("the end of the bundles", || std::fs::read_dir(&bundles).map_or(0, Iterator::count) == 0);
        let runtime_state = Path::new("/run/containerd/runc").join(&self.namespace);
        assert_eq!(std::fs::read_dir(runtime_state).map_or(0, Iterator::count), 0);
        assert!(!leaks::is_mounted(&scratch), "a mount is left");
        assert_eq!(leaks::cgroups_named(&self.namespace), Vec::<String>::new());
        for id in self.ids.lock().unwrap().iter() {
            assert!(!self.shim_socket(id).exists(), "the socket of {id} is left");
        }
        leaks::remove_namespace_folders(&self.namespace);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // After a test that failed: its shims, and with them its containers.
        for (pid, _) in leaks::processes_with(&format!("-address {}", self.socket().display())) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for id in self.ids.lock().unwrap().iter() {
            let root = Path::new("/run/containerd/runc").join(&self.namespace);
            let _ = Command::new("runc").arg("--root").arg(root).args(["delete", "--force", id]).output();
            let bundle =
                self.path().join("state/io.containerd.runtime.v2.task").join(&self.namespace).join(id);
            let _ = Command::new("umount").arg("-l").arg(bundle.join("rootfs")).output();
            let _ = std::fs::remove_file(self.shim_socket(id));
        }
        leaks::remove_namespace_folders(&self.namespace);
    }
}
