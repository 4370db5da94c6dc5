//! A daemon as a process, on scratch folders and a scratch socket.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Ctr, Programs, assert_nothing_left, eventually};

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `cortend`, which prefers our shim.
    Corten,
    /// `cortend`, made to use Debian's shim.
    CortenWithStockShim,
    /// Debian's containerd with Debian's shim.
    Containerd,
    /// Debian's containerd, made to use our shim.
    ContainerdWithOurShim,
}

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Which one.
    pub kind: Kind,
    /// Lines for its configuration file, after the standard ones.
    pub configuration: String,
    /// Where its durable folder is, if not in the scratch folder.
    pub root: Option<PathBuf>,
    /// What it logs. Benchmarks take less than tests do.
    pub log_level: &'static str,
    /// A program, with arguments, that is given the daemon's command line and becomes the daemon.
    pub launcher: Vec<OsString>,
}

impl Default for DaemonOptions {
    /// `cortend`; `CORTEN_TEST_PEER=containerd` runs the same test against Debian's containerd, to test the test.
    fn default() -> Self {
        let peer = std::env::var("CORTEN_TEST_PEER").unwrap_or_default();
        let kind = if peer == "containerd" { Kind::Containerd } else { Kind::Corten };
        Self { kind, configuration: String::new(), root: None, log_level: "debug", launcher: Vec::new() }
    }
}

/// A running daemon. Stop it with [`Daemon::finish`], which also looks for what was left behind.
pub struct Daemon {
    options: DaemonOptions,
    programs: Programs,
    scratch: tempfile::TempDir,
    namespace: String,
    child: Option<Child>,
    containers: Mutex<Vec<String>>,
}

/// What serves Kubernetes, in containerd 1 and 2: no part of what is compared.
const KUBERNETES: [&str; 5] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.nri.v1.nri",
];

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    /// Starts `cortend` and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up; the error has its log.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(DaemonOptions::default())
    }

    /// Starts a daemon and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up; the error has its log.
    pub fn start_with(options: DaemonOptions) -> anyhow::Result<Self> {
        let mut daemon = Self::prepare(options)?;
        daemon.restart()?;
        Ok(daemon)
    }

    /// Makes the folders and the configuration of a daemon that is started later.
    ///
    /// # Errors
    /// If the programs are not built or the scratch folder cannot be made.
    pub fn prepare(options: DaemonOptions) -> anyhow::Result<Self> {
        Self::prepare_programs(options, Programs::find()?)
    }

    /// The same, of these programs of ours.
    ///
    /// # Errors
    /// If one of them is not there or the scratch folder cannot be made.
    pub fn prepare_with(cortend: &Path, shim: &Path) -> anyhow::Result<Self> {
        let options = DaemonOptions { kind: Kind::Corten, ..DaemonOptions::default() };
        Self::prepare_programs(options, Programs::at(cortend.to_owned(), shim.to_owned()))
    }

    fn prepare_programs(options: DaemonOptions, programs: Programs) -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("corten-").tempdir_in("/tmp")?;
        let namespace = format!("t{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let daemon =
            Self { options, programs, scratch, namespace, child: None, containers: Mutex::default() };
        daemon.write_configuration()?;
        Ok(daemon)
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        let text = format!(
            "version = 2\ndisabled_plugins = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n{}",
            if self.is_corten() { &KUBERNETES[..1] } else { &KUBERNETES[..] },
            self.path("opt"),
            self.options.configuration
        );
        std::fs::create_dir_all(self.path("bin"))?;
        let shim = match self.options.kind {
            Kind::Corten | Kind::ContainerdWithOurShim => &self.programs.shim,
            Kind::CortenWithStockShim | Kind::Containerd => &self.programs.stock_shim,
        };
        let built = |program: &Path| format!("{} is not there: run `cargo xtask build`", program.display());
        put(shim, &self.path("bin/containerd-shim-runc-v2")).with_context(|| built(shim))?;
        if self.is_corten() {
            let cortend = &self.programs.cortend;
            put(cortend, &self.path("bin/cortend")).with_context(|| built(cortend))?;
        }
        Ok(std::fs::write(self.path("config.toml"), text)?)
    }

    fn is_corten(&self) -> bool {
        matches!(self.options.kind, Kind::Corten | Kind::CortenWithStockShim)
    }

    /// The command that starts it. The shim that it finds lies beside it and first in PATH.
    #[must_use]
    pub fn command(&self) -> Command {
        let program =
            if self.is_corten() { self.path("bin/cortend") } else { self.programs.containerd.clone() };
        let mut command = match self.options.launcher.split_first() {
            None => Command::new(program),
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(program);
                command
            }
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .arg("--config")
            .arg(self.path("config.toml"))
            .arg("--root")
            .arg(self.root())
            .arg("--state")
            .arg(self.path("state"))
            .arg("--address")
            .arg(self.address())
            .args(["--log-level", self.options.log_level]);
        command
    }

    /// Starts the process (again) and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up; the error has its log.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the daemon still runs");
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let child = self.command().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let mut child = child.context("start the daemon")?;
        let ctr = self.ctr();
        let mut exit = None;
        let up = eventually("the daemon to answer", || {
            exit = child.try_wait().ok().flatten();
            (exit.is_some() || ctr.run(&["version"]).is_ok_and(|run| run.success())).then_some(())
        });
        self.child = Some(child);
        if let Some(status) = exit {
            self.child = None;
            anyhow::bail!("the daemon ended with {status}:\n{}", self.log());
        }
        up.with_context(|| self.log())
    }

    /// `ctr` for this daemon and its namespace.
    #[must_use]
    pub fn ctr(&self) -> Ctr {
        Ctr::new(self.address(), self.namespace.clone())
    }

    /// A container's id: remembered, so that what it leaves behind is looked for.
    #[must_use]
    pub fn container(&self, id: &str) -> String {
        self.containers.lock().expect("no test panics while it holds this").push(id.to_owned());
        id.to_owned()
    }

    /// Ids of the containers that tests made.
    pub(crate) fn containers(&self) -> Vec<String> {
        self.containers.lock().expect("no test panics while it holds this").clone()
    }

    /// A path in the scratch folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The durable folder.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.options.root.clone().unwrap_or_else(|| self.path("root"))
    }

    /// The scratch folder.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The gRPC socket.
    #[must_use]
    pub fn address(&self) -> PathBuf {
        self.path("s.sock")
    }

    /// The namespace that [`Daemon::ctr`] uses.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The process id.
    ///
    /// # Panics
    /// If the daemon does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The folder of a task.
    #[must_use]
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.path("state/io.containerd.runtime.v2.task").join(&self.namespace).join(id)
    }

    /// Ends the daemon without a word, as a crash would.
    ///
    /// # Errors
    /// If it did not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends the daemon as a service manager would and checks that it ends well. Containers stay.
    ///
    /// # Errors
    /// If it did not run or did not exit with 0.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an id")?;
        kill_process(pid, Signal::TERM)?;
        let status = eventually("the daemon to end", || child.try_wait().ok().flatten());
        if status.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let status = status.with_context(|| self.log())?;
        ensure!(status.success(), "the daemon ended with {status}:\n{}", self.log());
        Ok(())
    }

    /// Stops the daemon and asserts that nothing is left: no shim, mount, cgroup, bundle or socket.
    ///
    /// # Errors
    /// If it does not end well or left something.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            self.stop()?;
        }
        assert_nothing_left(&self)
    }
}

/// Puts a program where a daemon finds it. A program with its debug information is large, and some runners start a
/// daemon for each test: only where the folders lie on different filesystems is it a copy.
fn put(program: &Path, at: &Path) -> std::io::Result<()> {
    let program = program.canonicalize()?;
    std::fs::hard_link(&program, at).or_else(|_| std::fs::copy(&program, at).map(drop))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The daemon is ours; errors mean that it is gone already.
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
        crate::leaks::clean_up(self);
    }
}
