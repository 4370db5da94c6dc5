//! Descriptors that the runtime waits on.

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// Lets tokio wait until `descriptor` can be read or written.
///
/// # Errors
/// The kernel cannot wait on files of this kind (regular files, some devices). The descriptor comes back with the error.
///
/// # Panics
/// Outside a tokio runtime.
pub(crate) fn watch(descriptor: OwnedFd) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: the value owns the descriptor and always names the same one; nobody takes it out while it is registered.
    unsafe { AsyncFd::register(descriptor) }
}

/// The same, for descriptors that can always be waited on.
pub(crate) fn watch_stream(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(descriptor).map_err(|refused| refused.into_parts().1)
}
