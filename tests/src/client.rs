//! Debian's `ctr`, unmodified.

use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, bail, ensure};

/// `ctr` for one socket and one namespace.
#[derive(Clone, Debug)]
pub struct Ctr {
    address: PathBuf,
    namespace: String,
}

/// What a run of `ctr` gave.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Run {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }

    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ctr {
    /// For the daemon at `address`.
    #[must_use]
    pub fn new(address: PathBuf, namespace: String) -> Self {
        Self { address, namespace }
    }

    /// The same daemon, another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { address: self.address.clone(), namespace: namespace.to_owned() }
    }

    /// The command, ready to run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/ctr");
        command.arg("--address").arg(&self.address).arg("--namespace").arg(&self.namespace).args(arguments);
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Run> {
        let output = self.command(arguments).stdin(Stdio::null()).output().context("start ctr")?;
        Ok(Run::of(output))
    }

    /// Runs it with these bytes as its input.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> anyhow::Result<Run> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start ctr")?;
        let mut pipe = child.stdin.take().context("ctr has an input")?;
        let bytes = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A client that stops reading early is not this side's mistake.
            drop(pipe.write_all(&bytes));
        });
        let output = child.wait_with_output()?;
        drop(writer.join());
        Ok(Run::of(output))
    }

    /// Runs it in the background.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start ctr")
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// If it does not exit with 0; the error has what it complained about.
    pub fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let run = self.run(arguments)?;
        ensure!(run.success(), "ctr {arguments:?} exited with {}: {}{}", run.code, run.stdout, run.stderr);
        Ok(run.stdout)
    }

    /// Runs it and returns what it complained about.
    ///
    /// # Errors
    /// If it exits with 0.
    pub fn refused(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let run = self.run(arguments)?;
        if run.success() {
            bail!("ctr {arguments:?} was not refused: {}", run.stdout);
        }
        Ok(run.stderr)
    }
}
