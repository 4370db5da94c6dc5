//! Why an archive cannot be read.

use std::io;

use corten_types::{Error, ErrorKind};

/// Why an archive cannot be read. Nothing after this point of it was looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The bytes are no tar archive, or break its rules.
    #[error("the archive is malformed at byte {offset_bytes}: {reason}")]
    Malformed {
        /// Where in the uncompressed stream.
        offset_bytes: u64,
        /// Which rule is broken.
        reason: &'static str,
    },
    /// The bytes end inside an entry.
    #[error("the archive ends at byte {offset_bytes}, in the middle of {part}")]
    Truncated {
        /// Where in the uncompressed stream.
        offset_bytes: u64,
        /// What is incomplete.
        part: &'static str,
    },
    /// The stream that the archive comes from failed.
    #[error("cannot read the archive after byte {offset_bytes}")]
    Read {
        /// Where in the uncompressed stream.
        offset_bytes: u64,
        /// Why.
        source: io::Error,
    },
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Malformed { .. } => Self::new(ErrorKind::InvalidArgument, error.to_string()),
            ArchiveError::Truncated { .. } => Self::new(ErrorKind::DataLoss, error.to_string()),
            // The stream may carry an error of this project, with a class of its own.
            ArchiveError::Read { offset_bytes, source } => match source.downcast::<Self>() {
                Ok(inner) => inner,
                Err(source) => Self::new(
                    ErrorKind::DataLoss,
                    format!("cannot read the archive after byte {offset_bytes}"),
                )
                .with_source(source),
            },
        }
    }
}
