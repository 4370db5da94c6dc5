//! The streams of a container's processes (rows H47 and H60 to H65).
//!
//! Everything is opened before the runtime runs, so that a wrong path costs nothing, and no open or read ever blocks the
//! shim's only thread.

mod copy;
mod destination;
mod logger;
mod pipes;
mod terminal;
mod uri;

use std::{sync::Mutex, time::Duration};

use corten_runtime_runc::{ConsoleSocket, ProcessIo};
use corten_types::{Error, Result};
use tokio::task::JoinHandle;

use crate::{log, reaper::Reaper};
use logger::Logger;
pub(crate) use logger::place;
use pipes::{Input, StdinFifo};
use terminal::Terminal;
use uri::Scheme;

/// How many bytes are copied at a time: what the kernel moves through a pipe in one piece (row H65).
pub(crate) const CHUNK_BYTES: usize = 4096;

/// How long a deletion waits for the rest of the output (row H33).
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// What the client named for the streams of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamNames {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// For whom streams are opened.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) namespace: &'a str,
    /// The container's id: log helpers are told it.
    pub(crate) container: &'a str,
    /// Who owns the container's ends of the pipes.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) reaper: &'a Reaper,
}

/// Streams that are open and wait for their process.
pub(crate) struct Prepared {
    /// What the runtime passes on to the process.
    pub(crate) io: ProcessIo,
    /// Where the runtime sends the terminal.
    pub(crate) console: Option<ConsoleSocket>,
    stdin: Option<PendingInput>,
    outputs: Vec<(std::os::fd::OwnedFd, destination::Destination)>,
    /// Where a terminal's output goes.
    terminal_output: Option<destination::Destination>,
    logger: Option<Logger>,
}

/// Input that is not read yet.
struct PendingInput {
    path: std::path::PathBuf,
    /// The pipe to the process; none if it has a terminal.
    pipe: Option<std::os::fd::OwnedFd>,
}

/// The shim's ends of the streams of a process that exists.
#[derive(Default)]
pub(crate) struct Attached {
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    /// Copies that end with the output.
    outputs: Vec<JoinHandle<()>>,
    pending_stdin: Option<PendingInput>,
    stdin: Option<JoinHandle<()>>,
    stdin_closed: bool,
    /// Held so that a client that goes away does not end the process's input (row H60).
    stdin_holder: Option<std::os::fd::OwnedFd>,
    terminal: Option<Terminal>,
    logger: Option<Logger>,
}

/// Opens the streams of a process. Nothing is left open if it fails.
pub(crate) async fn prepare(names: &StreamNames, owner: Owner<'_>) -> Result<Prepared> {
    let mut prepared = Prepared {
        io: ProcessIo::default(),
        console: None,
        stdin: None,
        outputs: Vec::new(),
        terminal_output: None,
        logger: None,
    };
    if names.terminal {
        prepared.console = Some(ConsoleSocket::bind().map_err(Error::from)?);
        prepared.terminal_output(names, owner).await?;
    } else {
        prepared.outputs(names, owner).await?;
    }
    if !names.stdin.is_empty() {
        match Input::open(&names.stdin)? {
            // A file has nothing to type on a terminal.
            Input::File(_) if names.terminal => {}
            Input::File(file) => prepared.io.stdin = Some(file),
            Input::Fifo(path) if names.terminal => {
                prepared.stdin = Some(PendingInput { path, pipe: None });
            }
            Input::Fifo(path) => {
                let (reader, writer) = pipes::pipe()?;
                pipes::give(&reader, owner)?;
                prepared.io.stdin = Some(reader);
                prepared.stdin = Some(PendingInput { path, pipe: Some(writer) });
            }
        }
    }
    Ok(prepared)
}

impl Prepared {
    async fn terminal_output(&mut self, names: &StreamNames, owner: Owner<'_>) -> Result<()> {
        self.terminal_output = match Scheme::parse(&names.stdout)? {
            Scheme::Null => None,
            Scheme::Path(path) => Some(destination::open_path(&path)?),
            Scheme::File(path) => Some(destination::open_log(&path)?),
            Scheme::Binary(helper) => {
                let (logger, stdout, _stderr) = Logger::start(&helper, owner).await?;
                self.logger = Some(logger);
                Some(destination::of_pipe(stdout)?)
            }
        };
        Ok(())
    }

    async fn outputs(&mut self, names: &StreamNames, owner: Owner<'_>) -> Result<()> {
        match Scheme::parse(&names.stdout)? {
            Scheme::Binary(helper) => {
                let (logger, stdout, stderr) = Logger::start(&helper, owner).await?;
                self.logger = Some(logger);
                self.io.stdout = Some(stdout);
                self.io.stderr = Some(stderr);
            }
            Scheme::File(path) => {
                let log = destination::open_log(&path)?;
                self.io.stdout = Some(self.output(log.clone(), owner)?);
                self.io.stderr = Some(self.output(log, owner)?);
            }
            scheme @ (Scheme::Null | Scheme::Path(_)) => {
                let same = names.stdout == names.stderr;
                let mut first = None;
                self.io.stdout = Some(match scheme {
                    Scheme::Path(path) => {
                        let opened = destination::open_path(&path)?;
                        first = Some(opened.clone());
                        self.output(opened, owner)?
                    }
                    _ => pipes::null()?,
                });
                self.io.stderr = Some(match (names.stderr.as_str(), first) {
                    ("", _) => pipes::null()?,
                    // Both into one file: one description keeps their lines from overwriting each other.
                    (_, Some(opened)) if same => self.output(opened, owner)?,
                    (path, _) => self.output(destination::open_path(uri::plain(path))?, owner)?,
                });
            }
        }
        Ok(())
    }

    /// The process's end of a pipe into `destination`.
    fn output(
        &mut self,
        destination: destination::Destination,
        owner: Owner<'_>,
    ) -> Result<std::os::fd::OwnedFd> {
        let (reader, writer) = pipes::pipe()?;
        pipes::give(&writer, owner)?;
        self.outputs.push((reader, destination));
        Ok(writer)
    }

    /// Takes the process's ends out, for the runtime.
    pub(crate) fn take_io(&mut self) -> ProcessIo {
        std::mem::take(&mut self.io)
    }

    /// Begins to copy, now that the runtime has made the process.
    pub(crate) async fn attach(self) -> Result<Attached> {
        let mut parts = Parts { logger: self.logger, pending_stdin: self.stdin, ..Parts::default() };
        if let Some(console) = self.console {
            let master = console.receive().await.map_err(Error::from)?;
            let (terminal, output) = Terminal::attach(master, self.terminal_output)?;
            parts.terminal = Some(terminal);
            parts.outputs.push(output);
            return Ok(Attached { parts: Mutex::new(parts) });
        }
        for (reader, destination) in self.outputs {
            let source = copy::source(reader)?;
            parts.outputs.push(tokio::spawn(copy::copy(source, destination)));
        }
        Ok(Attached { parts: Mutex::new(parts) })
    }
}

impl Attached {
    fn lock(&self) -> std::sync::MutexGuard<'_, Parts> {
        // No code that can panic runs under the lock.
        self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Begins to read the process's input, if that was not done before.
    ///
    /// A client may find the end of its own input as soon as somebody reads here, and clients (`ctr` for one) can pass that on
    /// only when Create has returned. So the FIFO of init is not opened before that.
    pub(crate) fn open_stdin(&self) -> Result<()> {
        let mut parts = self.lock();
        let Some(pending) = parts.pending_stdin.take() else { return Ok(()) };
        let fifo = StdinFifo::open(&pending.path)?;
        let source = copy::source(fifo.reader)?;
        if !parts.stdin_closed {
            parts.stdin_holder = Some(fifo.holder);
        }
        parts.stdin = match (pending.pipe, &parts.terminal) {
            (Some(pipe), _) => {
                let destination = destination::of_pipe(pipe)?;
                Some(tokio::spawn(copy::copy_until_closed(source, destination)))
            }
            (None, Some(terminal)) => terminal.type_from(source),
            (None, None) => None,
        };
        Ok(())
    }

    /// Lets the input of the process end when the client's end is closed too.
    pub(crate) fn close_stdin(&self) {
        let mut parts = self.lock();
        parts.stdin_closed = true;
        parts.stdin_holder = None;
    }

    /// Tells a terminal its size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.lock().terminal.as_ref().map_or(Ok(()), |terminal| terminal.resize(columns, rows))
    }

    /// The process has ended: a terminal that others still hold is copied only as long as something comes.
    pub(crate) fn process_ended(&self) {
        if let Some(terminal) = &self.lock().terminal {
            terminal.process_ended();
        }
    }

    /// Waits for the rest of the output, at most ten seconds, and closes everything.
    pub(crate) async fn finish(&self) {
        let parts = std::mem::take(&mut *self.lock());
        if let Some(stdin) = parts.stdin {
            stdin.abort();
        }
        drop(parts.stdin_holder);
        let deadline = tokio::time::Instant::now() + DRAIN_DEADLINE;
        for mut output in parts.outputs {
            if tokio::time::timeout_at(deadline, &mut output).await.is_err() {
                log::warn(format_args!("the rest of the output was not taken in time"));
                output.abort();
            }
        }
        drop(parts.terminal);
        if let Some(logger) = parts.logger {
            logger.stop().await;
        }
    }
}

#[cfg(test)]
#[path = "stdio/tests.rs"]
mod tests;
