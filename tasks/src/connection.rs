//! Connections to shims: one for each address, shared by the tasks of a group, which tells when it is closed.

use std::{
    collections::HashMap,
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use corten_types::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use ttrpc::asynchronous::{Client, transport::Socket};

use crate::{bootstrap::Bootstrap, locked, log::LogDrain, registry::Key};

/// How many calls of one shim may be unanswered, those included that nobody waits for any more.
pub(crate) const MAX_CALLS_IN_FLIGHT: usize = 4096;
/// The pause between tries to reach a shim that has only just started.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Whether a shim is about to listen, or should have been listening for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shim {
    /// It has just been started: its socket may need a moment.
    Starting,
    /// It was there before the daemon: if nobody listens, it is dead.
    Running,
}

/// A connection to one shim. It is closed when the last task drops it, or by [`Connection::close`].
pub(crate) struct Connection {
    pub(crate) address: String,
    pub(crate) client: Client,
    pub(crate) calls: Arc<Semaphore>,
    version: AtomicI32,
    closed: watch::Receiver<bool>,
    stop: CancellationToken,
    /// The shim writes to the log of the bundle that started it, also when that bundle is gone.
    logs: Mutex<Vec<LogDrain>>,
}

impl Connection {
    fn new(bootstrap: &Bootstrap, stream: UnixStream) -> Self {
        let stop = CancellationToken::new();
        let (closed_sender, closed) = watch::channel(false);
        let watched = Watched {
            stream,
            stopped: Box::pin(stop.clone().cancelled_owned()),
            _closed: SignalOnDrop(closed_sender),
        };
        Self {
            address: bootstrap.address.clone(),
            client: Client::new(Socket::new(watched)),
            calls: Arc::new(Semaphore::new(MAX_CALLS_IN_FLIGHT)),
            version: AtomicI32::new(bootstrap.version),
            closed,
            stop,
            logs: Mutex::new(Vec::new()),
        }
    }

    /// The version of the task service that the shim understands.
    pub(crate) fn version(&self) -> i32 {
        self.version.load(Ordering::Relaxed)
    }

    /// From now on version 2 is spoken. `false` if it was already (H15, H75).
    pub(crate) fn downgrade(&self) -> bool {
        self.version.compare_exchange(3, 2, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until either side has closed the connection.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error says that the sender is gone, which is the same.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Closes it from our side. Calls in flight fail.
    pub(crate) fn close(&self) {
        self.stop.cancel();
    }

    pub(crate) fn keep_log(&self, log: LogDrain) {
        locked(&self.logs).push(log);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Calls that nobody waits for hold the client; they must not keep the connection.
        self.stop.cancel();
    }
}

/// All connections by their address.
#[derive(Default)]
pub(crate) struct Connections {
    known: Mutex<HashMap<String, Weak<Connection>>>,
}

impl Connections {
    /// The open connection to a shim, or a new one. Tries for `limit` at most.
    ///
    /// # Errors
    /// - `Unavailable`: nobody listens there.
    /// - `DeadlineExceeded`: somebody does, but does not accept.
    /// - `Unimplemented`: the address is not that of a Unix socket.
    pub(crate) async fn open(
        &self,
        bootstrap: &Bootstrap,
        shim: Shim,
        limit: Duration,
    ) -> Result<Arc<Connection>> {
        if let Some(connection) = self.find(&bootstrap.address) {
            return Ok(connection);
        }
        let stream = dial(&bootstrap.address, shim, limit).await?;
        let mut known = locked(&self.known);
        if let Some(raced) = open_in(&known, &bootstrap.address) {
            return Ok(raced);
        }
        let connection = Arc::new(Connection::new(bootstrap, stream));
        known.retain(|_, connection| connection.strong_count() > 0);
        known.insert(bootstrap.address.clone(), Arc::downgrade(&connection));
        Ok(connection)
    }

    fn find(&self, address: &str) -> Option<Arc<Connection>> {
        open_in(&locked(&self.known), address)
    }

    pub(crate) fn close_all(&self) {
        for connection in locked(&self.known).values().filter_map(Weak::upgrade) {
            connection.close();
        }
    }
}

fn open_in(known: &HashMap<String, Weak<Connection>>, address: &str) -> Option<Arc<Connection>> {
    known.get(address).and_then(Weak::upgrade).filter(|connection| !connection.is_closed())
}

async fn dial(address: &str, shim: Shim, limit: Duration) -> Result<UnixStream> {
    let deadline = Instant::now() + limit;
    loop {
        let failure = match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => failure,
        };
        let busy = failure.kind() == io::ErrorKind::WouldBlock;
        let absent = matches!(failure.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let retried = busy || (absent && shim == Shim::Starting);
        if !retried || Instant::now() >= deadline {
            let kind = match failure.kind() {
                io::ErrorKind::WouldBlock => ErrorKind::DeadlineExceeded,
                io::ErrorKind::Unsupported => ErrorKind::Unimplemented,
                _ => ErrorKind::Unavailable,
            };
            return Err(Error::new(kind, format!("cannot reach the shim at {address}")).with_source(failure));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// A path after `unix://`, else the name of an abstract socket (H08).
async fn connect(address: &str) -> io::Result<UnixStream> {
    match address.strip_prefix("unix://") {
        Some(path) => UnixStream::connect(path).await,
        None if address.contains("://") => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "only Unix sockets are supported"))
        }
        None => UnixStream::connect(format!("\0{}", address.trim_start_matches(['\0', '@']))).await,
    }
}

/// Removes a socket on which nobody listens any more: a killed shim could not.
pub(crate) async fn remove_dead_socket(address: &str) {
    let Some(path) = address.strip_prefix("unix://") else { return };
    let refused =
        connect(address).await.is_err_and(|failure| failure.kind() == io::ErrorKind::ConnectionRefused);
    if refused && let Err(source) = std::fs::remove_file(path) {
        tracing::debug!(path, %source, "cannot remove the socket of a dead shim");
    }
}

/// Where a Go shim listens a second time when it logs in detail (row H12), beside its `address`. Named after the container whose
/// shim it is: for one that was only a member of a group there is no such socket.
pub(crate) fn debug_address(address: &str, grpc_address: &str, key: &Key) -> Option<String> {
    let folder = Path::new(address.strip_prefix("unix://")?).parent()?;
    let name = format!("{grpc_address}/{}/{}/debug", key.namespace, key.id);
    let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("unix://{}/{hash}", folder.display()))
}

struct SignalOnDrop(watch::Sender<bool>);

impl Drop for SignalOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A stream that ends when it is told to, and says when it is dropped. The `ttrpc` crate drops it as soon as the other side
/// has closed, a frame is damaged, or the last client is gone.
struct Watched {
    stream: UnixStream,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    _closed: SignalOnDrop,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
