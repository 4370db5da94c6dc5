//! Where output goes: a FIFO, a pipe or a file.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    },
    path::Path,
    sync::Arc,
};

use corten_types::{Error, Result};
use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use crate::watched::watch;

/// Something that output is written to. Clones write to the same description.
#[derive(Clone)]
pub(crate) enum Destination {
    /// Ready when somebody reads.
    Stream(Arc<AsyncFd<OwnedFd>>),
    /// Always ready.
    File(Arc<OwnedFd>),
}

/// Opens a FIFO, or a file that exists.
///
/// A FIFO is opened for both directions: that never blocks, and as long as the shim holds the reading end a client that goes
/// away does not kill the container (row H60).
pub(crate) fn open_path(path: &Path) -> Result<Destination> {
    let failed = |error: io::Error| Error::io(format!("open the output {}", path.display()), error);
    let kind = path.metadata().map_err(failed)?.file_type();
    let direction =
        if kind.is_fifo() { OFlags::RDWR } else { OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY };
    let opened = open(path, direction | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed(error.into()))?;
    if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        stream(opened)
    } else {
        Ok(file(opened))
    }
}

/// Opens a log file, and makes it and the folders above it if they are missing (row H61).
pub(crate) fn open_log(path: &Path) -> Result<Destination> {
    let failed = |error: io::Error| Error::io(format!("open the log file {}", path.display()), error);
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    }
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(failed)?;
    Ok(file(opened.into()))
}

/// The writing end of a pipe that the shim made.
pub(crate) fn of_pipe(pipe: OwnedFd) -> Result<Destination> {
    let flags = fcntl_getfl(&pipe).map_err(|error| Error::io("look at a pipe", error.into()))?;
    fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)
        .map_err(|error| Error::io("keep a pipe from blocking", error.into()))?;
    stream(pipe)
}

fn stream(opened: OwnedFd) -> Result<Destination> {
    match watch(opened) {
        Ok(stream) => Ok(Destination::Stream(Arc::new(stream))),
        Err(refused) => {
            let (opened, error) = refused.into_parts();
            // Devices such as /dev/null cannot be waited for and never block.
            if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
                return Ok(file(opened));
            }
            Err(Error::io("watch an output", error))
        }
    }
}

fn file(opened: OwnedFd) -> Destination {
    Destination::File(Arc::new(opened))
}

impl Destination {
    /// Writes what can be written at once: perhaps nothing.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => write_all(file, bytes),
            Self::Stream(stream) => {
                let mut written = 0;
                while written < bytes.len() {
                    match rustix::io::write(stream.get_ref(), &bytes[written..]) {
                        Ok(count) => written += count,
                        Err(Errno::AGAIN) => break,
                        Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(written)
            }
        }
    }

    /// Writes all of `bytes`, waiting for the reader.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.write_now(bytes)?;
        while written < bytes.len() {
            let Self::Stream(stream) = self else { break };
            let mut ready = stream.writable().await?;
            match ready.try_io(|stream| Ok(rustix::io::write(stream.get_ref(), &bytes[written..])?)) {
                Ok(count) => written += count?,
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(file, &bytes[written..]) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(written)
}
