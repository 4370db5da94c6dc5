//! A daemon with a busybox image in it.

use corten_tests::{Ctr, Daemon, DaemonOptions, Image, Run, root_or_skip};

pub(crate) struct Fixture {
    pub(crate) daemon: Daemon,
    pub(crate) ctr: Ctr,
    pub(crate) image: Image,
}

impl Fixture {
    /// `None` where the test cannot run.
    pub(crate) fn new() -> Option<Self> {
        Self::with(DaemonOptions::default())
    }

    /// A daemon that collects only when asked: what `ctr content ingest` and `ctr snapshots view` leave is garbage once
    /// their client is gone.
    pub(crate) fn quiet() -> Option<Self> {
        let section = "io.containerd.gc.v1.scheduler";
        let configuration = format!(
            "[plugins.{section:?}]\npause_threshold = 0.02\ndeletion_threshold = 1000\nmutation_threshold = 1000\n\
             schedule_delay = \"1h\"\nstartup_delay = \"1h\"\n"
        );
        Self::with(DaemonOptions { configuration, ..DaemonOptions::default() })
    }

    pub(crate) fn with(options: DaemonOptions) -> Option<Self> {
        if !root_or_skip() {
            return None;
        }
        let daemon = Daemon::start_with(options).unwrap();
        let ctr = daemon.ctr();
        let image = Image::busybox(daemon.scratch(), "localhost/busybox:1").unwrap();
        ctr.ok(&["images", "import", image.archive.to_str().unwrap()]).unwrap();
        Some(Self { daemon, ctr, image })
    }

    /// `ctr run` with options, a new container's id and a command.
    pub(crate) fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Run {
        let id = self.daemon.container(id);
        self.ctr.run(&self.words("run", options, &id, command)).unwrap()
    }

    /// A container in the background.
    pub(crate) fn detached(&self, options: &[&str], id: &str, command: &[&str]) {
        let mut all = vec!["-d"];
        all.extend(options);
        let run = self.run(&all, id, command);
        assert!(run.success(), "{}{}", run.stdout, run.stderr);
    }

    pub(crate) fn words<'a>(
        &'a self,
        verb: &'a str,
        options: &[&'a str],
        id: &'a str,
        command: &[&'a str],
    ) -> Vec<&'a str> {
        let mut words = vec![verb];
        words.extend(options);
        words.extend([self.image.name.as_str(), id]);
        words.extend(command);
        words
    }

    /// Kills and removes a container and its task.
    pub(crate) fn remove(&self, id: &str) {
        self.ctr.ok(&["tasks", "delete", "--force", id]).unwrap();
        self.ctr.ok(&["containers", "delete", id]).unwrap();
    }

    /// The status column of `ctr tasks ls`.
    pub(crate) fn status(&self, id: &str) -> Option<String> {
        let list = self.ctr.ok(&["tasks", "ls"]).unwrap();
        list.lines().find_map(|line| {
            let mut columns = line.split_whitespace();
            (columns.next() == Some(id)).then(|| columns.nth(1).unwrap_or_default().to_owned())
        })
    }

    pub(crate) fn finish(self) {
        self.daemon.finish().unwrap();
    }
}
