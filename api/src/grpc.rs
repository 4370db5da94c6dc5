//! Errors as tonic's statuses, and back.

use bytes::Bytes;
use corten_types::Error;
use prost::Message;

use crate::status;

/// The status of an error, with details where several causes count (row X07).
///
/// It takes the error by value so that `.map_err(grpc::to_status)` reads well.
#[must_use]
pub fn to_status(error: Error) -> tonic::Status {
    let whole = status::status(&error);
    let code = tonic::Code::from_i32(whole.code);
    if whole.details.is_empty() {
        tonic::Status::new(code, whole.message)
    } else {
        let details = Bytes::from(whole.encode_to_vec());
        tonic::Status::with_details(code, whole.message, details)
    }
}

/// The error that a status stands for. The message is kept whole.
#[must_use]
pub fn from_status(status: tonic::Status) -> Error {
    status::error(i32::from(status.code()), status.message())
}
