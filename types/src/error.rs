//! The one error that crosses crate borders: a class, a sentence and a source.

use std::fmt;

/// A result whose error names its class.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// containerd's error classes (rows X07 and X08 of the behaviour table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's argument is wrong whatever the state; a retry fails too.
    InvalidArgument,
    /// The named thing does not exist here.
    NotFound,
    /// The named thing exists already.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit (disk space, message size, memory) would be passed.
    ResourceExhausted,
    /// The state does not allow this now.
    FailedPrecondition,
    /// Somebody changed the thing meanwhile. A FailedPrecondition on the wire.
    Conflict,
    /// The change would change nothing. A FailedPrecondition on the wire.
    NotModified,
    /// Given up in the middle; nothing changed.
    Aborted,
    /// An offset or index lies outside what exists.
    OutOfRange,
    /// This build or this implementation cannot do it.
    Unimplemented,
    /// A bug or a broken invariant.
    Internal,
    /// Not now: locked, starting or unreachable. A retry may succeed.
    Unavailable,
    /// Stored data is damaged or gone.
    DataLoss,
    /// The caller did not say who it is.
    Unauthenticated,
    /// The time that was allowed is over.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// None of the above.
    Unknown,
}

impl ErrorKind {
    /// The words that containerd's clients look for at the end of a message (X08).
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid argument",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::PermissionDenied => "permission denied",
            Self::ResourceExhausted => "resource exhausted",
            Self::FailedPrecondition => "failed precondition",
            Self::Conflict => "conflict",
            Self::NotModified => "not modified",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out of range",
            Self::Unimplemented => "not implemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data loss",
            Self::Unauthenticated => "unauthenticated",
            Self::DeadlineExceeded => "context deadline exceeded",
            Self::Cancelled => "context canceled",
            Self::Unknown => "unknown",
        }
    }

    /// The class of an error of the operating system.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Self::NotFound,
            Io::AlreadyExists => Self::AlreadyExists,
            Io::PermissionDenied => Self::PermissionDenied,
            Io::StorageFull | Io::QuotaExceeded | Io::OutOfMemory => Self::ResourceExhausted,
            Io::TimedOut => Self::DeadlineExceeded,
            Io::WouldBlock | Io::ResourceBusy | Io::ConnectionRefused | Io::NotConnected => Self::Unavailable,
            Io::InvalidInput => Self::InvalidArgument,
            Io::Unsupported => Self::Unimplemented,
            _ => Self::Unknown,
        }
    }
}

/// An error: its class, a sentence that names the thing and what was being done, and what caused it.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause. `message` is a sentence without the class and without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with what caused it. The message does not repeat the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// An error of the operating system while doing `what`, with the class that fits.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::of_io(&source), what).with_source(source)
    }

    /// The class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence, without class and cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The sentence and every cause, joined with colons: what is sent to a client.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of the class [`ErrorKind::", stringify!($kind), "`].")]
                pub fn $name(message: impl Into<String>) -> Self {
                    Self::new(ErrorKind::$kind, message)
                }
            )*
        }
    };
}

constructors! {
    invalid_argument => InvalidArgument,
    not_found => NotFound,
    already_exists => AlreadyExists,
    failed_precondition => FailedPrecondition,
    out_of_range => OutOfRange,
    unimplemented => Unimplemented,
    internal => Internal,
    unavailable => Unavailable,
    data_loss => DataLoss,
    resource_exhausted => ResourceExhausted,
    deadline_exceeded => DeadlineExceeded,
    unknown => Unknown,
}
