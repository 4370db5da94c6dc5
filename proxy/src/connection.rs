//! The connection to a server on a unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::Instant};
use tonic::transport::{Channel, Endpoint, Uri};

/// The largest message, both ways (row X02).
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// How long a call waits for a server that is not there yet (row DM99).
pub const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// What may be under way to us at once, in bytes: for one stream, and for all of a connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The largest frame that we take, in bytes. Sixteen times the usual: bytes of blobs arrive with fewer wake-ups from a server that
/// makes such frames.
const FRAME_BYTES: u32 = 256 << 10;

/// A connection to the gRPC server on one unix socket. Clones share it; keep one for each address.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    path: Arc<Path>,
}

impl Connection {
    /// A connection to the socket at `path` (absolute). Nothing is dialled before the first call, and a connection that
    /// broke is dialled again by the next one.
    ///
    /// A call to a server that is not there yet is answered with `Unavailable` after [`DIAL_PATIENCE`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn unix(path: &Path) -> Self {
        Self::unix_with_patience(path, DIAL_PATIENCE)
    }

    /// The same with a patience of one's own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn unix_with_patience(path: &Path, patience: Duration) -> Self {
        let path: Arc<Path> = path.into();
        let target = path.to_path_buf();
        // The authority is what containerd's own clients send (row X01).
        let channel = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .connect_with_connector_lazy(tower::service_fn(move |_uri: Uri| dial(target.clone(), patience)));
        Self { channel, path }
    }

    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The channel, for clients of services that have no proxy here.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Connects, and tries again while there is nobody: a server that is being started is there in a moment.
async fn dial(path: PathBuf, patience: Duration) -> io::Result<TokioIo<UnixStream>> {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok(TokioIo::new(stream)),
            Err(error) if is_absence(&error) && Instant::now() + pause < deadline => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot connect to {}: {error}", path.display()),
                ));
            }
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
