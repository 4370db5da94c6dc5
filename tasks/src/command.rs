//! One run of a shim's program: what it is given, what it says, and how long it may take (rows H03 to H05).

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use corten_types::{Error, Namespace, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::Receiver,
    process::{Child, ChildStdin, Command},
};

use crate::{bundle::Bundle, options::Options};

/// How much of a program's output is kept; the rest is read and dropped.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 8192;

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// Empty if it went where stdout went.
    pub(crate) stderr: Vec<u8>,
}

/// Whether stderr is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Both into one, as shims' `start` is read (H07).
    Merged,
    /// Each for itself.
    Apart,
}

/// The command line and environment of an action on a bundle.
pub(crate) fn action(
    settings: &Options,
    program: &Path,
    namespace: &Namespace,
    id: &str,
    bundle: &Bundle,
    action: &str,
) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-namespace", namespace.as_str(), "-address", &settings.grpc_address])
        .arg("-publish-binary")
        .arg(&settings.containerd_binary)
        .args(["-id", id]);
    if action == "delete" {
        command.arg("-bundle").arg(bundle.path());
    }
    if settings.debug {
        command.arg("-debug");
    }
    command
        .arg(action)
        .current_dir(bundle.path())
        .env("GOMAXPROCS", "2")
        // Literally 2, though version 3 is spoken (H05).
        .env("MAX_SHIM_VERSION", "2")
        .env("TTRPC_ADDRESS", &settings.ttrpc_address)
        .env("GRPC_ADDRESS", &settings.grpc_address)
        .env("NAMESPACE", namespace.as_str())
        .envs(settings.env.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs `command` in a process group of its own and waits for it, not for children that it leaves behind.
///
/// # Errors
/// - `DeadlineExceeded`: it took longer than `limit`; its process group was killed.
/// - others: it could not be started.
pub(crate) async fn run(
    mut command: Command,
    input: &[u8],
    streams: Streams,
    limit: Duration,
) -> Result<Output> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |source| Error::io(format!("cannot run {program}"), source);
    let (stdout, write_end) = pipe().map_err(failed)?;
    let stderr = match streams {
        Streams::Merged => {
            command.stderr(Stdio::from(write_end.try_clone().map_err(failed)?));
            None
        }
        Streams::Apart => {
            let (stderr, write_end) = pipe().map_err(failed)?;
            command.stderr(Stdio::from(write_end));
            Some(stderr)
        }
    };
    command.stdout(Stdio::from(write_end)).stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the pipes' write ends; without them gone there is no end of file.
    drop(command);
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let stdin = child.stdin.take();
    let mut outputs = (Capture::new(Some(stdout)), Capture::new(stderr));
    let finished = tokio::time::timeout(limit, finish(&mut child, stdin, input, &mut outputs)).await;
    let Ok(status) = finished else {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait().await;
        return Err(Error::deadline_exceeded(format!("{program} was killed: it took longer than {limit:?}")));
    };
    let status = status.map_err(failed)?;
    Ok(Output { status, stdout: outputs.0.bytes, stderr: outputs.1.bytes })
}

async fn finish(
    child: &mut Child,
    stdin: Option<ChildStdin>,
    input: &[u8],
    outputs: &mut (Capture, Capture),
) -> io::Result<ExitStatus> {
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its stdin is no failure.
            let _ = stdin.write_all(input).await;
        }
    };
    tokio::pin!(feed);
    let mut fed = false;
    let status = loop {
        tokio::select! {
            () = &mut feed, if !fed => fed = true,
            () = outputs.0.read() => {}
            () = outputs.1.read() => {}
            status = child.wait() => break status?,
        }
    };
    // What an exited program wrote is in the pipes already; a daemon that it left behind may hold them open for ever.
    outputs.0.drain();
    outputs.1.drain();
    Ok(status)
}

/// One stream of a program.
struct Capture {
    pipe: Option<Receiver>,
    bytes: Vec<u8>,
}

impl Capture {
    fn new(pipe: Option<Receiver>) -> Self {
        Self { pipe, bytes: Vec::new() }
    }

    /// Waits for bytes; for ever after the end.
    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let mut buffer = [0; READ_BYTES];
        match pipe.read(&mut buffer).await {
            Ok(count) if count > 0 => self.keep(buffer.get(..count).unwrap_or_default()),
            _ => self.pipe = None,
        }
    }

    fn drain(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while let Some(pipe) = &self.pipe {
            match pipe.try_read(&mut buffer) {
                Ok(count) if count > 0 => self.keep(buffer.get(..count).unwrap_or_default()),
                _ => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, read: &[u8]) {
        let room = MAX_OUTPUT_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend(read.iter().take(room));
    }
}

fn pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((Receiver::from_owned_fd(reader.into())?, writer.into()))
}

#[cfg(test)]
mod tests;
