//! One runtime binary with the options that every command shares, and the way a command is run.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
};

use crate::{
    Operation, ProcessIo, Processes, Result, RuntimeError, ThreadedProcesses, log,
    memory_file::{self, Output},
    options::Arguments,
};

/// An OCI runtime: a binary, the folder that holds its state, and its log.
#[derive(Clone, Debug)]
pub struct Runtime {
    binary: PathBuf,
    root: PathBuf,
    log: Option<PathBuf>,
    systemd_cgroup: bool,
    processes: Arc<dyn Processes>,
}

/// What a command reads and prints.
pub(crate) enum Streams<'a> {
    /// It reads these bytes (nothing if `None`); what it prints is kept.
    Kept(Option<&'a [u8]>),
    /// It reads nothing; its standard output is kept and the rest is lost.
    Answer,
    /// A container's process inherits these.
    Container(ProcessIo),
}

impl Runtime {
    /// The runtime `binary` (a path, or a name that is looked up in `PATH`) with its state below `root`.
    pub fn new(binary: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            root: root.into(),
            log: None,
            systemd_cgroup: false,
            processes: Arc::new(ThreadedProcesses),
        }
    }

    /// The same with a JSON log at `path` (absolute), from which error messages are read.
    #[must_use]
    pub fn with_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// The same with cgroups made by systemd.
    #[must_use]
    pub fn with_systemd_cgroup(mut self, wanted: bool) -> Self {
        self.systemd_cgroup = wanted;
        self
    }

    /// The same with processes started and waited for by `processes`.
    #[must_use]
    pub fn with_processes(mut self, processes: Arc<dyn Processes>) -> Self {
        self.processes = processes;
        self
    }

    /// The binary, as it was given.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The folder that holds the runtime's state.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The command with the arguments that all share (row H44), before its streams are set.
    fn command(&self, arguments: Arguments) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root);
        if let Some(log) = &self.log {
            command.arg("--log").arg(log).args(["--log-format", "json"]);
        }
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.args(arguments.0);
        // With this set runc would play proxy between systemd and the container (row DM17).
        command.env_remove("NOTIFY_SOCKET");
        // SAFETY: the closure makes one system call and touches no memory.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                Ok(())
            });
        }
        command
    }

    /// Runs one command and returns what it printed, if that is kept.
    pub(crate) async fn run(
        &self,
        operation: Operation,
        arguments: Arguments,
        streams: Streams<'_>,
    ) -> Result<Vec<u8>> {
        let mut command = self.command(arguments);
        let log_start = self.log.as_deref().map_or(0, log::end);
        let output = connect(&mut command, streams)
            .map_err(|error| RuntimeError::io("open the streams of the runtime", error))?;
        let status = self.processes.run(command).await.map_err(|source| RuntimeError::NotStarted {
            operation,
            binary: self.binary.clone(),
            source: not_started(&self.binary, source),
        })?;
        let printed = match output {
            Some(output) => {
                output.read().map_err(|error| RuntimeError::io("read what the runtime printed", error))?
            }
            None => Vec::new(),
        };
        if status.success() {
            return Ok(printed);
        }
        Err(self.refusal(operation, status, &printed, log_start))
    }

    fn refusal(
        &self,
        operation: Operation,
        status: ExitStatus,
        printed: &[u8],
        log_start: u64,
    ) -> RuntimeError {
        let printed = String::from_utf8_lossy(printed);
        let mut status_text =
            format!("{} did not terminate successfully: {}", self.binary.display(), describe(status));
        if !printed.trim().is_empty() {
            status_text.push_str(": ");
            status_text.push_str(printed.trim());
        }
        let logged = self.log.as_deref().map(|path| (path, log::last_error(path, log_start)));
        let message = match logged {
            None | Some((_, Ok(None))) => status_text,
            Some((_, Ok(Some(message)))) => message,
            Some((path, Err(error))) => {
                format!(
                    "unable to retrieve OCI runtime error (open {}: {error}): {status_text}",
                    path.display()
                )
            }
        };
        RuntimeError::Refused { operation, message }
    }
}

/// Sets the streams of `command`, and returns what collects its output.
fn connect(command: &mut Command, streams: Streams<'_>) -> io::Result<Option<Output>> {
    match streams {
        Streams::Kept(input) => {
            command.stdin(match input {
                Some(bytes) => memory_file::holding(bytes)?.into(),
                None => Stdio::null(),
            });
            let output = Output::new()?;
            command.stdout(output.stdio()?).stderr(output.stdio()?);
            Ok(Some(output))
        }
        Streams::Answer => {
            let output = Output::new()?;
            command.stdin(Stdio::null()).stdout(output.stdio()?).stderr(Stdio::null());
            Ok(Some(output))
        }
        Streams::Container(ProcessIo { stdin, stdout: None, stderr: None }) => {
            command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
            let output = Output::new()?;
            command.stdout(output.stdio()?).stderr(output.stdio()?);
            Ok(Some(output))
        }
        Streams::Container(io) => {
            command.stdin(io.stdin.map_or_else(Stdio::null, Stdio::from));
            command.stdout(io.stdout.map_or_else(Stdio::null, Stdio::from));
            command.stderr(io.stderr.map_or_else(Stdio::null, Stdio::from));
            Ok(None)
        }
    }
}

/// An exit as go-runc words it, with signals as a shell counts them.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("exit status {}", 128 + signal),
        (None, None) => status.to_string(),
    }
}

/// The words that clients look for when the binary is missing.
fn not_started(binary: &Path, error: io::Error) -> io::Error {
    let by_name = binary.components().count() == 1 && binary.is_relative();
    if error.kind() == io::ErrorKind::NotFound {
        let reason = if by_name { "executable file not found in $PATH" } else { "no such file or directory" };
        return io::Error::new(
            io::ErrorKind::NotFound,
            format!("exec: {:?}: {reason}", binary.display().to_string()),
        );
    }
    error
}
