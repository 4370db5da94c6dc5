//! Pipes to the container, and the FIFO that its input comes through.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use corten_types::{Error, Result};
use rustix::{
    fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fcntl_setfl, open, stat},
    pipe::{PipeFlags, pipe_with},
};

use super::Owner;

/// A pipe: what is read from and what is written to.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::io("make a pipe for a container", error.into()))
}

/// Lets the container's user open its end again through `/proc/self/fd` (`io_uid` and `io_gid` of row H50).
pub(crate) fn give(end: &OwnedFd, owner: Owner<'_>) -> Result<()> {
    if owner.uid == 0 && owner.gid == 0 {
        return Ok(());
    }
    fchown(end, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
        .map_err(|error| Error::io("give a container's pipe to its user", error.into()))
}

/// The null device, for both directions.
pub(crate) fn null() -> Result<OwnedFd> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io("open /dev/null", error.into()))
}

/// Where a process's input comes from.
pub(crate) enum Input {
    /// A FIFO, to be opened when the process starts.
    Fifo(PathBuf),
    /// A file or a device: the process reads it itself.
    File(OwnedFd),
}

/// The FIFO of the input.
pub(crate) struct StdinFifo {
    pub(crate) reader: OwnedFd,
    /// A writer of the shim's own: without one the input would end whenever no client holds the FIFO.
    pub(crate) holder: OwnedFd,
}

impl Input {
    pub(crate) fn open(name: &str) -> Result<Self> {
        let path = super::uri::plain(name);
        let failed = |error: rustix::io::Errno| {
            Error::io(format!("open the standard input {}", path.display()), error.into())
        };
        let kind = FileType::from_raw_mode(stat(path).map_err(failed)?.st_mode);
        if kind == FileType::Fifo {
            return Ok(Self::Fifo(path.to_owned()));
        }
        let reader = open_now(path, OFlags::RDONLY).map_err(failed)?;
        fcntl_setfl(&reader, OFlags::empty()).map_err(failed)?;
        Ok(Self::File(reader))
    }
}

impl StdinFifo {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error: rustix::io::Errno| {
            Error::io(format!("open the standard input {}", path.display()), error.into())
        };
        let reader = open_now(path, OFlags::RDONLY).map_err(failed)?;
        let holder = open_now(path, OFlags::WRONLY).map_err(failed)?;
        Ok(Self { reader, holder })
    }
}

fn open_now(path: &Path, direction: OFlags) -> rustix::io::Result<OwnedFd> {
    open(path, direction | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}
