//! A lock on a root folder that says who holds it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

/// Why a root could not be locked. Nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {holder}", root.display())]
    Held {
        /// The root.
        root: PathBuf,
        /// What the holder wrote about itself, with its process id.
        holder: String,
    },
    /// The lock file could not be opened or locked.
    #[error("cannot lock {}", root.display())]
    Io {
        /// The root.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A lock on a root folder; dropping it, or the death of the process in any way, gives it back.
///
/// It is an advisory `flock` on the file `lock` in the root. The file stays: removing it would let two processes lock
/// two different files of the same name. The descriptor is not inherited by programs that are started.
#[derive(Debug)]
pub struct RootLock {
    file: File,
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // Closing is not enough: a program that is being started by another thread has a copy of the descriptor until its
        // `exec`, and the lock lasts as long as any copy. If this fails, closing gives it back.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl RootLock {
    /// The name of the lock file in the root.
    pub const FILE_NAME: &'static str = "lock";

    /// Locks the folder `root`, which must exist. `who` names the program in the message that another one gets.
    ///
    /// # Errors
    /// - [`LockError::Held`]: another process (or another lock in this one) has it.
    /// - [`LockError::Io`]: the lock file could not be opened or locked.
    pub fn acquire(root: &Path, who: &str) -> Result<Self, LockError> {
        Self::lock(root, &root.join(Self::FILE_NAME), who)
    }

    /// Locks through the file `path` itself, which is created, for what is one file and not a folder.
    ///
    /// # Errors
    /// As for [`RootLock::acquire`].
    pub fn acquire_file(path: &Path, who: &str) -> Result<Self, LockError> {
        Self::lock(path, path, who)
    }

    fn lock(root: &Path, path: &Path, who: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { root: root.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { root: root.to_owned(), holder: holder_of(&file) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // The text only serves the message above, so it is not synced.
        let text = format!("{who} (process {})\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0)).map_err(failed)?;
        Ok(Self { file })
    }
}

/// What the holder wrote; a lock file that somebody damaged yields a general answer.
fn holder_of(file: &File) -> String {
    let mut buffer = [0; 256];
    let length = file.read_at(&mut buffer, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    match text.trim() {
        "" => "another process".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RootLock::acquire(folder.path(), "first").unwrap();
        let _inherited = lock.file.try_clone().unwrap();
        assert!(matches!(RootLock::acquire(folder.path(), "second"), Err(LockError::Held { .. })));
        drop(lock);
        RootLock::acquire(folder.path(), "second").unwrap();
    }
}
