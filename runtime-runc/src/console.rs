//! The socket over which a runtime hands over a terminal (row H47).

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

use crate::{Result, RuntimeError};

/// How long a runtime that has succeeded may take to hand over the terminal.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(30);

/// How many names are tried for the socket's folder.
const MAX_ATTEMPTS: u32 = 64;

/// A socket in a folder of its own, readable by its owner only; removed on drop.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    folder: PathBuf,
    path: PathBuf,
}

impl ConsoleSocket {
    /// A new socket below `$XDG_RUNTIME_DIR`, or else the folder for temporary files.
    ///
    /// # Errors
    /// [`RuntimeError::Io`]: the folder or the socket cannot be made. Nothing is left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind() -> Result<Self> {
        let parent = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self::bind_below(&parent)
    }

    fn bind_below(parent: &Path) -> Result<Self> {
        let step = || format!("make a console socket below {}", parent.display());
        let folder = new_folder(parent).map_err(|error| RuntimeError::io(step(), error))?;
        let path = folder.join("pty.sock");
        let bound = UnixListener::bind(&path).and_then(|listener| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self { listener, folder, path }),
            Err(error) => {
                // The folder was made a moment ago; it holds at most the socket.
                let _ = std::fs::remove_dir_all(&folder);
                Err(RuntimeError::io(step(), error))
            }
        }
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal's master. To be called when the runtime has succeeded; waits at most 30 seconds.
    ///
    /// # Errors
    /// [`RuntimeError::Io`]: nobody connected in time, or something else than one descriptor was sent.
    pub async fn receive(&self) -> Result<OwnedFd> {
        let step = || "receive the terminal from the runtime";
        let receive = async {
            let (stream, _) = self.listener.accept().await?;
            receive_descriptor(&stream).await
        };
        match tokio::time::timeout(RECEIVE_DEADLINE, receive).await {
            Ok(received) => received.map_err(|error| RuntimeError::io(step(), error)),
            Err(late) => Err(RuntimeError::io(step(), io::Error::new(io::ErrorKind::TimedOut, late))),
        }
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // Best effort: what is left is an empty folder for temporary files.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn new_folder(parent: &Path) -> io::Result<PathBuf> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    for attempt in 0..MAX_ATTEMPTS {
        let unique = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos());
        let folder = parent.join(format!("pty{}-{unique:x}-{attempt}", std::process::id()));
        match builder.create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(folder),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

async fn receive_descriptor(stream: &UnixStream) -> io::Result<OwnedFd> {
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || receive_now(stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

fn receive_now(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten();
    match (descriptors.next(), descriptors.next()) {
        (Some(descriptor), None) => Ok(descriptor),
        (None, _) => Err(io::Error::other("no descriptor came over the console socket")),
        (Some(_), Some(_)) => Err(io::Error::other("several descriptors came over the console socket")),
    }
}

#[cfg(test)]
#[path = "console/tests.rs"]
mod tests;
