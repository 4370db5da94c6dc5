//! Where a shim listens (rows H12 to H14).

use std::{
    fmt::Write as _,
    fs::{DirBuilder, File, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use corten_types::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Annotations that put containers into one shim; the first that is there counts.
const GROUP_ANNOTATIONS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// What precedes the path in an address.
const SCHEME: &str = "unix://";

/// The longest path of a socket that the kernel takes, with its end mark.
const MAX_PATH_BYTES: usize = 107;

/// The part of a container's specification that groups it.
#[derive(Deserialize)]
struct Grouping {
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// The id that the container of `bundle` shares a shim under: its group, or its own `id`.
pub(crate) fn grouping_id(bundle: &Path, id: &str) -> Result<String> {
    let path = bundle.join("config.json");
    let file = File::open(&path).map_err(|error| Error::io(format!("open {}", path.display()), error))?;
    let grouping: Grouping = serde_json::from_reader(io::BufReader::new(file))
        .map_err(|error| Error::invalid_argument(format!("read {}", path.display())).with_source(error))?;
    let annotations = grouping.annotations.unwrap_or_default();
    Ok(GROUP_ANNOTATIONS
        .iter()
        .find_map(|name| annotations.get(*name))
        .cloned()
        .unwrap_or_else(|| id.to_owned()))
}

/// The path of the socket of a group in a namespace of the daemon at `daemon_address`.
pub(crate) fn path(folder: &str, daemon_address: &str, namespace: &str, group: &str) -> PathBuf {
    let joined = clean(&format!("{daemon_address}/{namespace}/{group}"));
    let digest = Sha256::digest(joined.as_bytes());
    let mut name = String::with_capacity(64);
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    Path::new(folder).join(name)
}

/// The address of a socket's path.
pub(crate) fn address(path: &Path) -> String {
    format!("{SCHEME}{}", path.display())
}

/// The path of an address, if it is one of a socket in the filesystem.
pub(crate) fn path_of(address: &str) -> Option<PathBuf> {
    address.trim().strip_prefix(SCHEME).map(PathBuf::from)
}

/// A socket for a new shim, or the news that the group has one.
pub(crate) enum Bound {
    New(UnixListener),
    Answering,
}

/// Binds `path`, unless a shim answers there. A socket that nobody serves is replaced.
pub(crate) fn bind(path: &Path) -> Result<Bound> {
    let what = || format!("make the shim's socket {}", path.display());
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(Error::invalid_argument(format!(
            "{}: the path has more than {MAX_PATH_BYTES} bytes",
            what()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    bind_locked(folder, path).map_err(|error| Error::io(what(), error))
}

fn bind_locked(folder: &Path, path: &Path) -> io::Result<Bound> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Between the bind and the listen of one start another would find a socket that refuses connections.
    let lock = File::open(folder)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if answers(path) {
                return Ok(Bound::Answering);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Bound::New(listener))
}

/// Removes the socket at `path` if no shim answers there any more.
pub(crate) fn remove_if_dead(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let lock = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    flock(&lock, FlockOperation::LockExclusive)?;
    if answers(path) {
        return Ok(());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// What Go's `filepath.Clean` makes of an absolute or relative path: the hash is made of it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
#[path = "socket/tests.rs"]
mod tests;
