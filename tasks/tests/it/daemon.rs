//! The part of a daemon that tasks need: a scratch root and state, an exchange, and the socket that shims forward events to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use corten_api::{
    containerd::{
        events::{TaskDelete, TaskExit},
        services::events::ttrpc::v1::ForwardRequest,
    },
    ttrpc::{RequestContext, method, service},
};
use corten_events::{Envelope, Exchange, NoEventFields};
use corten_tasks::{CreateOptions, Options, Tasks, Timeouts};
use corten_types::{Any, Error, Namespace};
use prost::Message;
use tokio::sync::watch;
use ttrpc::asynchronous::Server;

use crate::{
    Shim,
    container::{make_rootfs, rootfs_mount, spec_any, spec_json},
};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
static COUNTER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Daemon {
    pub(crate) namespace: Namespace,
    pub(crate) shim: Shim,
    pub(crate) rootfs: PathBuf,
    pub(crate) timeouts: Timeouts,
    folder: tempfile::TempDir,
    running: Option<Running>,
    /// Everything that was published, by any run of the daemon.
    published: watch::Sender<Vec<Arc<Envelope>>>,
    addresses: Mutex<Vec<String>>,
    clean: bool,
}

struct Running {
    tasks: Arc<Tasks>,
    server: Server,
    collector: tokio::task::JoinHandle<()>,
}

impl Daemon {
    /// A daemon with a namespace of its own.
    pub(crate) async fn start(shim: Shim) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("tasks").tempdir().unwrap();
        let mut daemon = Self {
            namespace: format!("tasks-{}-{number}", std::process::id()).parse().unwrap(),
            shim,
            rootfs: make_rootfs(folder.path()),
            timeouts: Timeouts::default(),
            folder,
            running: None,
            published: watch::channel(Vec::new()).0,
            addresses: Mutex::default(),
            clean: false,
        };
        daemon.begin().await;
        daemon
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.running.as_ref().expect("the daemon runs").tasks
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.state().join(id)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state/io.containerd.runtime.v2.task").join(self.namespace.as_str())
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path().join("root/io.containerd.runtime.v2.task").join(self.namespace.as_str())
    }

    pub(crate) fn settings(&self, events: Exchange) -> Options {
        let socket = self.path().join("d.sock").display().to_string();
        let mut settings = Options::new(
            self.path().join("root"),
            self.path().join("state"),
            &socket,
            format!("{socket}.ttrpc"),
            events,
        );
        settings.timeouts = self.timeouts;
        // Shims of 1.6 run it once each; it must end well.
        settings.containerd_binary = "/bin/true".into();
        settings
    }

    /// Starts it again, after [`stop`](Self::stop).
    pub(crate) async fn begin(&mut self) {
        let events = Exchange::new(Arc::new(NoEventFields));
        let mut subscription = events.subscribe(corten_filter::Filters::default()).unwrap();
        let published = self.published.clone();
        let collector = tokio::spawn(async move {
            while let Some(Ok(envelope)) = subscription.recv().await {
                published.send_modify(|all| all.push(envelope));
            }
        });
        let tasks = Arc::new(Tasks::new(self.settings(events.clone())));
        let observer = Arc::clone(&tasks);
        let forward = method(move |_: RequestContext, request: ForwardRequest| {
            let (observer, events) = (Arc::clone(&observer), events.clone());
            async move { forward(&observer, &events, request) }
        });
        let socket = self.path().join("d.sock.ttrpc");
        let _ = fs::remove_file(&socket);
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .unwrap()
            .register_service(service("containerd.services.events.ttrpc.v1.Events", [("Forward", forward)]));
        server.start().await.unwrap();
        self.running = Some(Running { tasks, server, collector });
    }

    /// Ends it as a crash would: nothing is told to shims.
    pub(crate) async fn stop(&mut self) {
        let mut running = self.running.take().expect("the daemon runs");
        let _ = running.server.shutdown().await;
        running.tasks.shutdown().await;
        running.collector.abort();
    }

    pub(crate) fn options(&self, id: &str, arguments: &[&str]) -> CreateOptions {
        let spec = spec_any(&spec_json(self.namespace.as_str(), id, arguments));
        let mut options = CreateOptions::new(self.namespace.clone(), id, "io.containerd.runc.v2", spec);
        options.runtime_path = self.shim.0.display().to_string();
        options.rootfs = vec![rootfs_mount(&self.rootfs)];
        options
    }

    /// Creates a task; its pid.
    pub(crate) async fn create(&self, id: &str, arguments: &[&str]) -> u32 {
        self.create_with(self.options(id, arguments)).await
    }

    pub(crate) async fn create_with(&self, options: CreateOptions) -> u32 {
        let id = options.id.clone();
        let created = self.tasks().create(options).await.unwrap();
        let bootstrap = fs::read(self.bundle(&id).join("bootstrap.json")).unwrap();
        let bootstrap: serde_json::Value = serde_json::from_slice(&bootstrap).unwrap();
        self.addresses.lock().unwrap().push(bootstrap["address"].as_str().unwrap().to_owned());
        created.pid
    }

    /// Creates and starts a task; its pid.
    pub(crate) async fn run(&self, id: &str, arguments: &[&str]) -> u32 {
        let pid = self.create(id, arguments).await;
        assert_eq!(self.tasks().start(&self.namespace, id, "").await.unwrap(), pid);
        pid
    }

    /// The pid of the shim that serves a task.
    pub(crate) fn shim_pid(&self, id: &str) -> i32 {
        let found = self.shim_pids().into_iter().find(|(_, line)| line.contains(&format!("-id {id} ")));
        found.unwrap_or_else(|| panic!("no shim of {id} in {:?}", self.shim_pids())).0
    }

    /// The shims of this daemon's namespace with their command lines.
    pub(crate) fn shim_pids(&self) -> Vec<(i32, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("shim") && line.contains(&format!("-namespace {} ", self.namespace)) {
                found.push((pid, line));
            }
        }
        found
    }

    pub(crate) fn kill_shim(&self, id: &str) {
        let pid = rustix::process::Pid::from_raw(self.shim_pid(id)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Waits until `wanted` finds something in what was published.
    pub(crate) async fn published<T>(
        &self,
        what: &str,
        mut wanted: impl FnMut(&[Arc<Envelope>]) -> Option<T>,
    ) -> T {
        let mut published = self.published.subscribe();
        let mut found = None;
        let waited = published.wait_for(|all| {
            found = wanted(all);
            found.is_some()
        });
        let waited = tokio::time::timeout(PATIENCE, waited).await.map(|_| ());
        let all = self.topics();
        waited.unwrap_or_else(|_| panic!("{what} was not published, only {all:?}"));
        found.unwrap()
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.published.borrow().iter().map(|envelope| envelope.topic.to_string()).collect()
    }

    /// The exits that were published, of all runs.
    pub(crate) fn exits(&self) -> Vec<TaskExit> {
        exits_in(&self.published.borrow())
    }

    /// Waits for the exit of a process, and says how it ended.
    pub(crate) async fn exit_of(&self, process: &str) -> TaskExit {
        let find = |all: &[Arc<Envelope>]| exits_in(all).into_iter().find(|exit| exit.id == process);
        self.published(&format!("the exit of {process}"), find).await
    }

    /// Waits for the deletion of a task.
    pub(crate) async fn deletion_of(&self, id: &str) -> TaskDelete {
        let find = |all: &[Arc<Envelope>]| {
            let deleted = all.iter().filter(|envelope| envelope.topic.as_str() == "/tasks/delete");
            let mut deleted =
                deleted.map(|envelope| TaskDelete::decode(envelope.event.value.clone()).unwrap());
            deleted.find(|event| event.container_id == id)
        };
        self.published(&format!("the deletion of {id}"), find).await
    }

    /// Checks that nothing is left of any task, and ends.
    pub(crate) async fn finish(mut self) {
        eventually("all shims have ended", || self.shim_pids().is_empty()).await;
        for folder in [self.state(), self.work()] {
            let left: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "left in {}: {left:?}", folder.display());
        }
        let folder = self.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&folder), "mounts are left below {folder}: {mounts}");
        let left: Vec<_> = fs::read_dir(self.runc_root()).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "containers are left in {}: {left:?}", self.runc_root().display());
        for address in self.addresses.lock().unwrap().iter() {
            let path = address.strip_prefix("unix://").unwrap_or(address);
            assert!(!Path::new(path).exists(), "the socket {path} is left");
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let folder = hierarchy.path().join(self.namespace.as_str());
            let left: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
            let left: Vec<_> = left.into_iter().filter(|entry| entry.path().is_dir()).collect();
            assert!(left.is_empty(), "cgroups are left: {left:?}");
        }
        self.stop().await;
        self.clean = true;
    }

    fn runc_root(&self) -> PathBuf {
        Path::new("/run/containerd/runc").join(self.namespace.as_str())
    }
}

/// Removes what a failed test left, and the empty folders that runc leaves by design.
impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.clean {
            for (pid, _) in self.shim_pids() {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            for container in fs::read_dir(self.runc_root()).into_iter().flatten().flatten() {
                let mut runc = Command::new("runc");
                runc.arg("--root")
                    .arg(self.runc_root())
                    .args(["delete", "--force"])
                    .arg(container.file_name());
                let _ = runc.status();
            }
            let _ = corten_mount::unmount_recursive(self.path(), corten_mount::UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir(self.runc_root());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(self.namespace.as_str()));
        }
    }
}

fn forward(tasks: &Tasks, events: &Exchange, request: ForwardRequest) -> corten_types::Result<()> {
    let wire = request.envelope.ok_or_else(|| Error::invalid_argument("no envelope"))?;
    let stamp = wire.timestamp.map(|stamp| {
        std::time::UNIX_EPOCH
            + Duration::new(stamp.seconds.try_into().unwrap(), stamp.nanos.try_into().unwrap())
    });
    let event = wire.event.unwrap_or_default();
    let event = Any { type_url: event.type_url, value: event.value.into() };
    let envelope = Envelope::received(stamp, &wire.namespace, &wire.topic, event)?;
    if tasks.observe(&envelope) {
        events.forward(envelope);
    }
    Ok(())
}

fn exits_in(all: &[Arc<Envelope>]) -> Vec<TaskExit> {
    let exits = all.iter().filter(|envelope| envelope.topic.as_str() == "/tasks/exit");
    exits.map(|envelope| TaskExit::decode(envelope.event.value.clone()).unwrap()).collect()
}

/// Polls a condition that nothing announces.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not true in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process exists and has not ended; it may still wait to be reaped by whoever has it now.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Writes a script. Another process does it: if this one had it open for writing while a thread forks, it could not be run.
pub(crate) fn script(daemon: &Daemon, name: &str, text: &str) -> PathBuf {
    let path = daemon.path().join(name);
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("#!/bin/sh\n{text}\n");
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    path
}

/// A fifo whose bytes a test reads.
pub(crate) struct Fifo {
    pub(crate) path: String,
    pipe: tokio::net::unix::pipe::Receiver,
}

impl Fifo {
    pub(crate) fn make(path: &Path) -> Self {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let pipe = tokio::net::unix::pipe::OpenOptions::new().read_write(true).open_receiver(path).unwrap();
        Self { path: path.display().to_string(), pipe }
    }

    /// Reads until `end` has come.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        use tokio::io::AsyncReadExt;
        let mut text = String::new();
        while !text.ends_with(end) {
            let byte = tokio::time::timeout(PATIENCE, self.pipe.read_u8()).await;
            text.push(char::from(byte.unwrap_or_else(|_| panic!("only {text:?} came")).unwrap()));
        }
        text
    }
}
