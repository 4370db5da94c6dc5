//! The one table between error classes and status codes, and the words that go with them (rows X07 and X08).

use corten_types::{Error, ErrorKind};
use prost::Message;

use crate::google::rpc::Status;

/// Every class with its gRPC code, which ttrpc shares.
///
/// `Conflict` and `NotModified` have no code of their own: they are failed preconditions that the end of the message
/// tells apart.
pub const TABLE: [(ErrorKind, i32); 18] = [
    (ErrorKind::Cancelled, 1),
    (ErrorKind::Unknown, 2),
    (ErrorKind::InvalidArgument, 3),
    (ErrorKind::DeadlineExceeded, 4),
    (ErrorKind::NotFound, 5),
    (ErrorKind::AlreadyExists, 6),
    (ErrorKind::PermissionDenied, 7),
    (ErrorKind::ResourceExhausted, 8),
    (ErrorKind::FailedPrecondition, 9),
    (ErrorKind::Conflict, 9),
    (ErrorKind::NotModified, 9),
    (ErrorKind::Aborted, 10),
    (ErrorKind::OutOfRange, 11),
    (ErrorKind::Unimplemented, 12),
    (ErrorKind::Internal, 13),
    (ErrorKind::Unavailable, 14),
    (ErrorKind::DataLoss, 15),
    (ErrorKind::Unauthenticated, 16),
];

/// The type name under which a further cause travels in the details of a status.
const CAUSE_TYPE: &str = "google.rpc.Status";

/// How many further causes are sent: metadata of an answer must stay small.
const MAX_CAUSES: usize = 8;

/// The code of a class. A class that the table does not know is 2, unknown.
#[must_use]
pub fn code(kind: ErrorKind) -> i32 {
    TABLE.iter().find(|(known, _)| *known == kind).map_or(2, |(_, code)| *code)
}

/// The class of a code. The end of `message` tells the failed preconditions apart.
#[must_use]
pub fn kind(code: i32, message: &str) -> ErrorKind {
    let mut candidates = TABLE.iter().filter(|(_, known)| *known == code).map(|(kind, _)| *kind);
    let Some(first) = candidates.next() else { return ErrorKind::Unknown };
    candidates.find(|kind| ends_with_suffix(message, *kind)).unwrap_or(first)
}

/// What a client reads: the sentence, its causes, and at the end the words of the class, once.
///
/// An error of no known class has no such words, unless it says nothing else: clients before 2.0 add them, and 2.x shows what
/// came.
#[must_use]
pub fn message(error: &Error) -> String {
    let mut text = error.chain();
    let classless = error.kind() == ErrorKind::Unknown && !text.is_empty();
    if !classless && !ends_with_suffix(&text, error.kind()) {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(error.kind().suffix());
    }
    text
}

/// The error that a peer sent. The message is kept whole, so that it can be sent on as it is.
#[must_use]
pub fn error(code: i32, message: &str) -> Error {
    Error::new(kind(code, message), message)
}

/// The status of an error, with every cause of another class as a detail of its own.
#[must_use]
pub fn status(error: &Error) -> Status {
    let mut details = Vec::new();
    let mut seen = vec![error.kind()];
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        if let Some(known) = current.downcast_ref::<Error>()
            && !seen.contains(&known.kind())
            && details.len() < MAX_CAUSES
        {
            seen.push(known.kind());
            let nested = Status { code: code(known.kind()), message: message(known), details: Vec::new() };
            details.push(prost_types::Any { type_url: CAUSE_TYPE.to_owned(), value: nested.encode_to_vec() });
        }
        cause = current.source();
    }
    Status { code: code(error.kind()), message: message(error), details }
}

fn ends_with_suffix(message: &str, kind: ErrorKind) -> bool {
    message.strip_suffix(kind.suffix()).is_some_and(|before| before.is_empty() || before.ends_with(": "))
}
