//! The seam: every durable operation is announced here before it is done, and confirmed after.

use std::{
    fmt, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// One opened file, for as long as it is open; a rename does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64);

impl FileId {
    /// A number that no other file opened by this process has.
    #[must_use]
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// A durable operation that is about to be done, or was done.
///
/// `path` of a file operation is the name under which the file was opened, for messages only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the operation takes")]
pub enum Operation<'a> {
    /// A new file is created and opened.
    Create { file: FileId, path: &'a Path, mode: u32 },
    /// A file that exists is opened for writing. Changes nothing and is not counted.
    Open { file: FileId, path: &'a Path },
    /// Bytes are written into an open file.
    Write { file: FileId, path: &'a Path, offset: u64, data: &'a [u8] },
    /// An open file is cut or grown.
    SetLength { file: FileId, path: &'a Path, length: u64 },
    /// The permissions of an open file are set.
    SetMode { file: FileId, path: &'a Path, mode: u32 },
    /// The bytes and the length of an open file go to stable storage.
    SyncData { file: FileId, path: &'a Path },
    /// The bytes, the length and the attributes of an open file go to stable storage.
    SyncAll { file: FileId, path: &'a Path },
    /// A name is moved, replacing what was there.
    Rename { from: &'a Path, to: &'a Path },
    /// A second name is given to a file.
    HardLink { from: &'a Path, to: &'a Path },
    /// A name of a file is removed.
    RemoveFile { path: &'a Path },
    /// A folder and everything in it is removed.
    RemoveTree { path: &'a Path },
    /// A folder is created.
    CreateFolder { path: &'a Path, mode: u32 },
    /// The names in a folder go to stable storage.
    SyncFolder { path: &'a Path },
    /// Everything on the filesystem of a folder goes to stable storage.
    SyncFilesystem { path: &'a Path },
}

impl Operation<'_> {
    /// Whether the operation changes or syncs anything: only these are counted and can fail.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Open { .. })
    }
}

/// What a seam wants to be done with an operation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Do it.
    Go,
    /// Do nothing and answer with this error.
    Fail(io::Error),
    /// A write only: write the first `bytes` bytes, then answer with `error`, as a full disk does.
    Short {
        /// How many bytes are written.
        bytes: usize,
        /// The answer.
        error: io::Error,
    },
}

impl Step {
    /// The result for an operation that has no halfway.
    ///
    /// # Errors
    /// The error that the seam asked for.
    pub fn into_result(self) -> io::Result<()> {
        match self {
            Self::Go => Ok(()),
            Self::Fail(error) | Self::Short { error, .. } => Err(error),
        }
    }
}

/// Something that watches durable operations and may make them fail. Tests implement it.
pub trait Seam: Send + Sync + fmt::Debug {
    /// Called before `operation` is done.
    fn before(&self, operation: &Operation<'_>) -> Step;

    /// Called after `operation` was done with success. Of a short write it is told only the part that was written.
    fn after(&self, operation: &Operation<'_>);
}
