//! Stream processors: programs that turn one media type into another, for example decrypt (row A04).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, ChildStderr, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use corten_types::{Any, Error, ErrorKind, Result};

/// How many programs one layer may pass through: a pair of them must not go on for ever.
pub(crate) const MAX_PROCESSORS: usize = 8;

/// How much of what a program complains about is kept.
const MAX_STDERR_BYTES: u64 = 64 * 1024;

/// How long a program may take to end after its output ended.
const EXIT_DEADLINE: Duration = Duration::from_secs(10);

/// Where a program finds its payload.
const PAYLOAD_DESCRIPTOR: i32 = 3;

/// A program that reads a stream of one media type and writes one of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamProcessor {
    /// Its name: payloads are addressed by it.
    pub id: String,
    /// The media types that it reads.
    pub accepts: Vec<String>,
    /// The media type that it writes.
    pub returns: String,
    /// The program: a path, or a name in `PATH`.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables beside this process's own, as `NAME=value`.
    pub env: Vec<String>,
}

/// The programs that work on one layer.
#[derive(Default)]
pub(crate) struct Processes {
    running: Mutex<Vec<Running>>,
    /// Why the first program could not be given all its input.
    feed_error: Arc<Mutex<Option<Error>>>,
}

struct Running {
    id: String,
    child: Child,
    stderr: Option<JoinHandle<Vec<u8>>>,
    was_killed: bool,
}

impl Processes {
    /// Starts the program on the output of the one before, or on `source`.
    pub(crate) fn start(
        &self,
        processor: &StreamProcessor,
        media_type: &str,
        payloads: &BTreeMap<String, Any>,
        input: Input,
    ) -> Result<File> {
        let failed = |error: io::Error| {
            let message = format!("cannot start the stream processor {}", processor.path);
            match error.kind() {
                // To a client NotFound means the blob.
                io::ErrorKind::NotFound => Error::new(
                    ErrorKind::FailedPrecondition,
                    format!("{message}, which layers of type {media_type} need; install it"),
                )
                .with_source(error),
                _ => Error::io(message, error),
            }
        };
        let mut command = Command::new(&processor.path);
        command.args(&processor.args).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in &processor.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            command.env(name, value);
        }
        command.env("STREAM_PROCESSOR_MEDIATYPE", media_type);
        let source = match input {
            Input::Output(file) => {
                command.stdin(file);
                None
            }
            Input::Source(source) => {
                command.stdin(Stdio::piped());
                Some(source)
            }
        };
        let payload =
            payloads.get(&processor.id).map(|payload| pass_payload(&mut command, payload)).transpose();
        let payload = payload.map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        // Closes this process's ends of what the child has inherited.
        drop(command);
        if let Some(Payload { writer, bytes, .. }) = payload {
            thread::spawn(move || {
                // A program that does not read its payload needs none.
                let _ = File::from(writer).write_all(&bytes);
            });
        }
        let output = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().map(|stderr| thread::spawn(move || keep_stderr(stderr)));
        if let (Some(source), Some(stdin)) = (source, child.stdin.take()) {
            let slot = Arc::clone(&self.feed_error);
            thread::spawn(move || feed(source, stdin, &slot));
        }
        self.lock().push(Running { id: processor.id.clone(), child, stderr, was_killed: false });
        Ok(File::from(OwnedFd::from(output)))
    }

    /// Ends all programs at once.
    pub(crate) fn kill(&self) {
        for running in self.lock().iter_mut() {
            running.was_killed = true;
            let _ = running.child.kill();
        }
    }

    /// Waits until all have ended; what first went wrong with one is the error.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut outcome = Ok(());
        for running in self.lock().drain(..) {
            outcome = outcome.and(running.wait());
        }
        let feed_error = self.feed_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        feed_error.map_or(outcome, Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait();
    }
}

/// What a program reads.
pub(crate) enum Input {
    /// The output of the program before it.
    Output(File),
    /// Bytes that a thread hands to it.
    Source(Box<dyn Read + Send>),
}

impl Running {
    fn wait(mut self) -> Result<()> {
        let deadline = Instant::now() + EXIT_DEADLINE;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(None) => {
                    let _ = self.child.kill();
                    break self.child.wait();
                }
                Err(error) => break Err(error),
            }
        };
        let id = &self.id;
        let status =
            status.map_err(|error| Error::io(format!("cannot wait for the stream processor {id}"), error))?;
        // One that had failed by itself before it was killed keeps its status.
        if status.success() || self.was_killed && status.signal() == Some(libc::SIGKILL) {
            return Ok(());
        }
        let stderr = self.stderr.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr);
        Err(Error::new(
            ErrorKind::Unknown,
            format!("the stream processor {id} failed with {status}: {}", stderr.trim()),
        ))
    }
}

/// Reads all of it, so that the program never waits, and keeps the beginning.
fn keep_stderr(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = (&mut stderr).take(MAX_STDERR_BYTES).read_to_end(&mut kept);
    let _ = io::copy(&mut stderr, &mut io::sink());
    kept
}

fn feed(mut source: Box<dyn Read + Send>, mut stdin: ChildStdin, slot: &Mutex<Option<Error>>) {
    match io::copy(&mut source, &mut stdin) {
        // A program that ends early has its reasons; its exit status tells.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error =
                error.downcast::<Error>().unwrap_or_else(|error| Error::io("cannot read the layer", error));
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        _ => {}
    }
}

/// The two ends of the pipe that a payload goes through.
struct Payload {
    writer: OwnedFd,
    bytes: Vec<u8>,
    /// Keeps the descriptor taken until the program is started.
    _held: OwnedFd,
}

fn pass_payload(command: &mut Command, payload: &Any) -> io::Result<Payload> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // Were number 3 free, the pipe through which `spawn` reports errors could get it, and be replaced in the child.
    let held = rustix::io::fcntl_dupfd_cloexec(&reader, PAYLOAD_DESCRIPTOR)?;
    let reader = rustix::io::fcntl_dupfd_cloexec(&reader, PAYLOAD_DESCRIPTOR + 1)?;
    let prepare = move || {
        // SAFETY: dup2 is async-signal-safe and touches no memory; the child owns its own descriptor table.
        if unsafe { libc::dup2(reader.as_raw_fd(), PAYLOAD_DESCRIPTOR) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: `prepare` makes one async-signal-safe call and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    Ok(Payload { writer, bytes: encode(payload), _held: held })
}

/// `google.protobuf.Any`: field 1 is the type, field 2 the value; empty fields are left out.
fn encode(payload: &Any) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.type_url.len() + payload.value.len() + 12);
    for (field, value) in [(1_u8, payload.type_url.as_bytes()), (2, payload.value.as_ref())] {
        if value.is_empty() {
            continue;
        }
        bytes.push(field << 3 | 2);
        let mut length = value.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(value);
    }
    bytes
}
