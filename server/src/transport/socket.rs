//! Binding unix sockets.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use corten_types::{Error, ErrorKind, Result};
use tokio::net::UnixListener;

/// Who may connect to a socket (row X01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Default for SocketOptions {
    /// Root and its group, as containerd.
    fn default() -> Self {
        Self { mode: 0o660, uid: 0, gid: 0 }
    }
}

/// The longest path that an address may hold.
const MAX_PATH_BYTES: usize = 107;

/// Binds `path`, absolute, whose folder must exist. It appears only once it has its owner and permissions.
///
/// The socket of a process that does not listen any more is replaced. The file stays when the listener is dropped: another
/// process may have replaced it by then.
///
/// # Errors
/// - [`ErrorKind::AlreadyExists`]: somebody listens there, or it is no socket. Nothing changed.
/// - [`ErrorKind::InvalidArgument`]: the path is longer than an address may be.
/// - otherwise what the operating system said. Nothing changed.
///
/// # Panics
/// Outside a tokio runtime.
pub fn bind(path: &Path, options: &SocketOptions) -> Result<UnixListener> {
    let path_bytes = path.as_os_str().len();
    if path_bytes > MAX_PATH_BYTES {
        return Err(Error::invalid_argument(format!(
            "socket {} has a path of {path_bytes} bytes; at most {MAX_PATH_BYTES} are allowed",
            path.display()
        )));
    }
    check_free(path)?;
    let temporary = temporary_path(path);
    let what = |step: &str| format!("{step} for {}", path.display());
    remove_if_there(&temporary).map_err(|failure| Error::io(what("remove an old socket"), failure))?;
    let listener =
        UnixListener::bind(&temporary).map_err(|failure| Error::io(what("bind a socket"), failure))?;
    let shown = set_owner(&temporary, options)
        .map_err(|failure| Error::io(what("set owner and mode of a socket"), failure))
        .and_then(|()| {
            move_to(&temporary, path).map_err(|failure| Error::io(what("show a socket"), failure))
        });
    if let Err(error) = shown {
        // Nobody can know of it; if it cannot be removed, the next start does it.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(listener)
}

/// Fails if somebody listens at `path`, or if it is something else than a socket.
fn check_free(path: &Path) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(failure) => return Err(Error::io(format!("look for a socket at {}", path.display()), failure)),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        return Err(Error::already_exists(format!("{} exists and is no socket: remove it", path.display())));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // Nobody listens: the process that made it is gone.
        Err(failure) if failure.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(Error::already_exists(format!(
            "socket {} is in use: another daemon answers there; stop it, or choose another address",
            path.display()
        ))),
        Err(failure) => Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("socket {} may be in use: it cannot be asked", path.display()),
        )
        .with_source(failure)),
    }
}

/// Beside the socket, as short as can be: addresses have at most 107 bytes.
fn temporary_path(path: &Path) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    path.with_file_name(format!(".{}.{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(failure) if failure.kind() != io::ErrorKind::NotFound => Err(failure),
        _ => Ok(()),
    }
}

fn set_owner(path: &Path, options: &SocketOptions) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(options.mode))?;
    std::os::unix::fs::chown(path, Some(options.uid), Some(options.gid))
}

#[expect(clippy::disallowed_methods, reason = "a socket is gone after a crash anyway")]
fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}
