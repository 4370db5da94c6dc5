//! How an operation is refused, and the class of SQLite's errors.

use corten_types::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Why an operation has no value for its caller, and what becomes of its changes.
///
/// `?` turns errors of SQLite and of this project into [`Refusal::Rollback`].
#[derive(Debug)]
pub enum Refusal {
    /// The changes are undone.
    Rollback(Error),
    /// The changes stay, and the caller gets the error once they are durable. For "it exists already, and you hold it
    /// from now on".
    Commit(Error),
}

impl Refusal {
    /// The error for the caller.
    #[must_use]
    pub fn error(&self) -> &Error {
        match self {
            Self::Rollback(error) | Self::Commit(error) => error,
        }
    }

    /// The error for the caller.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::Rollback(error) | Self::Commit(error) => error,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Rollback(error)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Rollback(classified("the database refused a statement", error))
    }
}

/// Gives errors of SQLite a sentence and a class.
pub trait Doing<T> {
    /// The value, or an error that says what was being done, with the class that fits:
    /// `ResourceExhausted` for a full disk, `AlreadyExists` for a key that is taken, `FailedPrecondition` for a broken
    /// reference, `NotFound` for a missing row, `DataLoss` for damage, `Unavailable` for a lock.
    ///
    /// # Errors
    /// The error, if there is one.
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| classified(what, error))
    }
}

pub(crate) fn classified(what: impl Into<String>, error: rusqlite::Error) -> Error {
    Error::new(kind_of(&error), what).with_source(error)
}

fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::ffi;
    match error {
        rusqlite::Error::QueryReturnedNoRows => ErrorKind::NotFound,
        // Stored values that are not what the schema promises.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => ErrorKind::DataLoss,
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull | ErrorCode::OutOfMemory | ErrorCode::TooBig => ErrorKind::ResourceExhausted,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::DataLoss,
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen => ErrorKind::Unavailable,
            ErrorCode::ConstraintViolation => match failure.extended_code {
                ffi::SQLITE_CONSTRAINT_UNIQUE
                | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                | ffi::SQLITE_CONSTRAINT_ROWID => ErrorKind::AlreadyExists,
                ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ErrorKind::FailedPrecondition,
                _ => ErrorKind::Internal,
            },
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal,
        },
        _ => ErrorKind::Internal,
    }
}

/// SQLite's code for what is behind an error, however many sentences were put before it.
pub(crate) fn code_of(error: &Error) -> Option<ErrorCode> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(sqlite) = error.downcast_ref::<rusqlite::Error>() {
            return sqlite.sqlite_error_code();
        }
        cause = error.source();
    }
    None
}

/// Whether a failure is of the storage below a statement rather than of the statement: then nothing of the transaction
/// that it happened in is trusted.
pub(crate) fn is_storage(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
        )
    )
}

pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(code_of(error), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
