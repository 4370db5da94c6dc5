//! Copying between descriptors that do not block.

use std::{io, os::fd::OwnedFd};

use corten_types::{Error, Result};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use super::{CHUNK_BYTES, destination::Destination};
use crate::{log, watched::watch_stream};

/// A descriptor that is read from when there is something to read.
pub(crate) fn source(descriptor: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    let failed = |error: io::Error| Error::io("watch a container's stream", error);
    let flags = fcntl_getfl(&descriptor).map_err(|error| failed(error.into()))?;
    fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    watch_stream(descriptor).map_err(failed)
}

/// What one step of copying did.
pub(crate) enum Step {
    /// Bytes were read; those that the destination did not take at once are returned.
    Moved(Vec<u8>),
    /// There is nothing more to come.
    End,
    /// The destination is broken.
    Broken(io::Error),
}

/// Reads one chunk and writes what the destination takes. The chunk lives on the stack: an idle copy holds no buffer.
pub(crate) fn step(source: &OwnedFd, destination: Option<&Destination>) -> io::Result<Step> {
    let mut chunk = [0_u8; CHUNK_BYTES];
    let count = loop {
        match rustix::io::read(source, &mut chunk) {
            Ok(count) => break count,
            Err(Errno::INTR) => {}
            // A terminal whose last user has gone.
            Err(Errno::IO) => break 0,
            Err(error) => return Err(error.into()),
        }
    };
    let bytes = &chunk[..count];
    if bytes.is_empty() {
        return Ok(Step::End);
    }
    let Some(destination) = destination else { return Ok(Step::Moved(Vec::new())) };
    match destination.write_now(bytes) {
        Ok(written) => Ok(Step::Moved(bytes[written..].to_vec())),
        Err(error) => Ok(Step::Broken(error)),
    }
}

/// Copies output until its last writer has gone. When the destination breaks (a full disk) the output is read all the
/// same: a container must not hang because of its log.
pub(crate) async fn copy(source: AsyncFd<OwnedFd>, destination: Destination) {
    let mut warned = false;
    loop {
        let moved = match next(&source, Some(&destination)).await {
            Ok(Step::Moved(rest)) if rest.is_empty() => Ok(()),
            Ok(Step::Moved(rest)) => destination.write(&rest).await,
            Ok(Step::Broken(error)) => Err(error),
            Ok(Step::End) => return,
            Err(error) => {
                log::warn(format_args!("read a container's output: {error}"));
                return;
            }
        };
        if let Err(error) = moved
            && !std::mem::replace(&mut warned, true)
        {
            log::warn(format_args!("write a container's output: {error}"));
        }
    }
}

/// Copies input until it ends or the process no longer reads.
pub(crate) async fn copy_until_closed(source: AsyncFd<OwnedFd>, destination: Destination) {
    loop {
        let moved = match next(&source, Some(&destination)).await {
            Ok(Step::Moved(rest)) if rest.is_empty() => Ok(()),
            Ok(Step::Moved(rest)) => destination.write(&rest).await,
            Ok(Step::Broken(error)) | Err(error) => Err(error),
            Ok(Step::End) => return,
        };
        if moved.is_err() {
            return;
        }
    }
}

/// Waits for the source and makes one step.
pub(crate) async fn next(source: &AsyncFd<OwnedFd>, destination: Option<&Destination>) -> io::Result<Step> {
    loop {
        let mut ready = source.readable().await?;
        if let Ok(done) = ready.try_io(|source| step(source.get_ref(), destination)) {
            return done;
        }
    }
}
