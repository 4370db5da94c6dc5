//! The threads that a layer's bytes run through: one reads and decompresses, one hashes, one takes what comes out.
//!
//! They are joined by bounded channels and hand the same few buffers round, so that a layer of any size needs
//! [`BUFFERS`] times [`BUFFER_BYTES`] of memory. Every thread ends before [`run`] returns.

use std::{
    io::{self, BufRead, Read},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use corten_types::{Algorithm, Digest, Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};

/// How many bytes are handed on at once.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// How many buffers go round in one pipeline.
pub(crate) const BUFFERS: usize = 8;

/// The hash and the number of all bytes, also of those after the archive's end (row A06).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

type Message = io::Result<Vec<u8>>;

/// Runs `consume` on this thread over the bytes that `source` opens on another. What `consume` leaves is read and hashed
/// too. When `consume` fails or panics, `stop` is called, which must make a reader that waits for bytes return.
///
/// # Errors
/// The first of: what `consume` fails with, the source's error. `Cancelled` if `is_cancelled` was set. `ResourceExhausted`
/// if there are more than `max_bytes`.
pub(crate) fn run<'a, T>(
    source: impl FnOnce() -> io::Result<Box<dyn Read + Send + 'a>> + Send,
    max_bytes: u64,
    is_cancelled: &AtomicBool,
    stop: impl Fn(),
    consume: impl FnOnce(&mut Stream<'_>) -> Result<T>,
) -> Result<(T, Hashed)> {
    thread::scope(|scope| {
        // The reader may wait for bytes that never come; the guard wakes it whatever happens.
        let mut guard = StopUnlessDone { stop, is_done: false };
        let (free_sender, free) = channel();
        let (read_sender, read) = sync_channel(BUFFERS);
        let (hashed_sender, hashed) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            let _ = free_sender.send(Vec::new());
        }
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let failed = |error| Error::io("cannot start a thread for a layer", error);
        spawn("layer-read")
            .spawn_scoped(scope, move || read_all(source, &free, &read_sender))
            .map_err(failed)?;
        let hasher = spawn("layer-hash")
            .spawn_scoped(scope, move || hash_all(&read, &hashed_sender, max_bytes))
            .map_err(failed)?;
        let mut stream = Stream {
            hashed,
            free: free_sender,
            current: Vec::new(),
            position: 0,
            is_cancelled,
            is_broken: false,
        };
        let outcome = consume(&mut stream).and_then(|value| stream.drain().map(|()| value));
        guard.is_done = outcome.is_ok();
        drop(stream);
        drop(guard);
        let value = outcome?;
        let hashed = hasher.join().map_err(|_| Error::internal("the thread that hashes a layer panicked"))?;
        Ok((value, hashed))
    })
}

struct StopUnlessDone<F: Fn()> {
    stop: F,
    is_done: bool,
}

impl<F: Fn()> Drop for StopUnlessDone<F> {
    fn drop(&mut self) {
        if !self.is_done {
            (self.stop)();
        }
    }
}

fn read_all<'a>(
    source: impl FnOnce() -> io::Result<Box<dyn Read + Send + 'a>>,
    free: &Receiver<Vec<u8>>,
    sender: &SyncSender<Message>,
) {
    let mut reader = match source() {
        Ok(reader) => reader,
        Err(error) => {
            let _ = sender.send(Err(error));
            return;
        }
    };
    // The channel of free buffers closes when nobody wants bytes any more.
    while let Ok(mut buffer) = free.recv() {
        buffer.resize(BUFFER_BYTES, 0);
        let (length, outcome) = fill(&mut *reader, &mut buffer);
        buffer.truncate(length);
        let is_end = outcome.is_err() || length < BUFFER_BYTES;
        // What was read before an error is handed on before it.
        if length > 0 && sender.send(Ok(buffer)).is_err() {
            return;
        }
        if let Err(error) = outcome {
            let _ = sender.send(Err(error));
        }
        if is_end {
            return;
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Err(error)),
        }
    }
    (length, Ok(()))
}

fn hash_all(read: &Receiver<Message>, sender: &SyncSender<Message>, max_bytes: u64) -> Hashed {
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    for message in read {
        if let Ok(data) = &message {
            hash.update(data);
            size_bytes += data.len() as u64;
        }
        if size_bytes > max_bytes {
            let _ = sender.send(Err(io::Error::other(too_large(max_bytes))));
            break;
        }
        if sender.send(message).is_err() {
            break;
        }
    }
    Hashed { digest: Digest::from_hash(Algorithm::Sha256, &hash.finalize()), size_bytes }
}

fn too_large(max_bytes: u64) -> Error {
    let message =
        format!("the layer has more than {max_bytes} bytes when it is decompressed, which is the limit");
    Error::new(ErrorKind::ResourceExhausted, message)
}

/// The end of a pipeline: the bytes, once they are hashed.
pub(crate) struct Stream<'a> {
    hashed: Receiver<Message>,
    free: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    is_cancelled: &'a AtomicBool,
    /// An error was handed out; what comes after it is missing from the hash.
    is_broken: bool,
}

impl Stream<'_> {
    fn drain(&mut self) -> Result<()> {
        if self.is_broken {
            return Err(Error::data_loss("the layer could not be read to its end"));
        }
        loop {
            let length = match self.fill_buf() {
                Ok(data) => data.len(),
                Err(error) => return Err(from_stream(error)),
            };
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }
}

/// The error that a stream carries.
fn from_stream(error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| Error::io("cannot read the layer", error))
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            if self.is_cancelled.load(Ordering::Relaxed) {
                let gone = Error::new(ErrorKind::Cancelled, "nobody waits for the layer any more");
                return Err(io::Error::other(gone));
            }
            // The reader is gone when there are no more bytes to come; then nobody needs the buffer.
            let _ = self.free.send(std::mem::take(&mut self.current));
            self.position = 0;
            if let Ok(message) = self.hashed.recv() {
                self.current = message.inspect_err(|_| self.is_broken = true)?;
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position = self.current.len().min(self.position + length);
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
