//! Why a layer cannot be unpacked.

use std::io;

use corten_types::{Error, ErrorKind};

use crate::archive::ArchiveError;

/// Why a layer cannot be unpacked. What came before the failing entry stays in the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry asks for something that no layer may have.
    #[error("the layer's entry {path} is refused: {reason}")]
    Refused {
        /// The entry's name.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The layer is larger than it may be.
    #[error("the layer has more than {limit} {what}, which is the limit")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// What is counted.
        what: &'static str,
    },
    /// The operating system failed.
    #[error("cannot {doing} {path}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The path below the target.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl UnpackError {
    pub(crate) fn refused(path: &[u8], reason: &'static str) -> Self {
        Self::Refused { path: shown(path), reason }
    }

    /// Turns an error of the operating system into one that says what was being done to `path`.
    pub(crate) fn system(doing: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::System { doing, path: shown(path), source: errno.into() }
    }
}

impl From<UnpackError> for Error {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Archive(inner) => inner.into(),
            UnpackError::TooLarge { .. } => Self::new(ErrorKind::ResourceExhausted, error.to_string()),
            UnpackError::Refused { .. } => Self::new(ErrorKind::InvalidArgument, error.to_string()),
            UnpackError::System { doing, path, source } => {
                // To a client NotFound and AlreadyExists mean the blob or the snapshot, not a file in a layer.
                let kind = match ErrorKind::of_io(&source) {
                    ErrorKind::NotFound | ErrorKind::AlreadyExists => ErrorKind::FailedPrecondition,
                    kind => kind,
                };
                Self::new(kind, format!("cannot {doing} {path}")).with_source(source)
            }
        }
    }
}

/// A path for an error message: readable whatever its bytes, and not longer than a line or two.
pub(crate) fn shown(path: &[u8]) -> String {
    const MAX_SHOWN_BYTES: usize = 200;
    let cut = &path[..path.len().min(MAX_SHOWN_BYTES)];
    let more = if cut.len() < path.len() { "..." } else { "" };
    format!("/{}{more}", cut.escape_ascii())
}
