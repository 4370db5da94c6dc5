//! Pid files (row H48).

use std::path::Path;

use crate::{Result, RuntimeError};

/// The process id that the runtime wrote to `path`.
///
/// # Errors
/// [`RuntimeError::Io`]: the file cannot be read, or holds no process id.
pub fn read_pid_file(path: &Path) -> Result<u32> {
    let step = || format!("read the process id in {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| RuntimeError::io(step(), error))?;
    text.trim().parse().ok().filter(|pid| *pid > 0).ok_or_else(|| {
        RuntimeError::io(step(), std::io::Error::other(format!("{text:?} is not a process id")))
    })
}
