//! Classes of errors on their way through statuses.

use corten_api::{google::rpc::Status, grpc, status, ttrpc};
use corten_types::{Error, ErrorKind};
use prost::Message;

#[test]
fn every_kind_survives_grpc_and_ttrpc() {
    for (kind, code) in status::TABLE {
        let error = Error::new(kind, "open blob x");
        let wanted = match kind {
            ErrorKind::Unknown => "open blob x".to_owned(),
            _ => format!("open blob x: {}", kind.suffix()),
        };

        let over_grpc = grpc::to_status(Error::new(kind, "open blob x"));
        assert_eq!((over_grpc.code() as i32, over_grpc.message()), (code, wanted.as_str()));
        let back = grpc::from_status(over_grpc);
        assert_eq!((back.kind(), back.message()), (kind, wanted.as_str()));

        let over_ttrpc = ttrpc::to_status(&error);
        assert_eq!((over_ttrpc.code.value(), over_ttrpc.message.as_str()), (code, wanted.as_str()));
        let back = ttrpc::from_status(&over_ttrpc);
        assert_eq!((back.kind(), back.message()), (kind, wanted.as_str()));

        assert_eq!(status::message(&back), wanted, "sent on, the words of the class come once");
    }
}

#[test]
fn conflict_and_not_modified_are_failed_preconditions_told_apart_by_their_end() {
    assert_eq!(status::kind(9, "image x: conflict"), ErrorKind::Conflict);
    assert_eq!(status::kind(9, "not modified"), ErrorKind::NotModified);
    assert_eq!(status::kind(9, "a conflict was seen"), ErrorKind::FailedPrecondition);
    assert_eq!(status::kind(9, "in conflict"), ErrorKind::FailedPrecondition);
}

#[test]
fn a_code_that_nobody_knows_is_unknown() {
    for code in [-1, 0, 17, i32::MAX] {
        assert_eq!(status::kind(code, "x"), ErrorKind::Unknown);
    }
}

#[test]
fn the_message_names_every_cause() {
    let cause = std::io::Error::other("disk on fire");
    let error = Error::internal("commit blob x").with_source(cause);
    assert_eq!(status::message(&error), "commit blob x: disk on fire: internal");
    assert_eq!(status::message(&Error::not_found("")), "not found");
    assert_eq!(status::message(&Error::unknown("")), "unknown");
}

#[test]
fn a_cause_of_another_class_travels_in_the_details() {
    let cause = Error::unavailable("shim of c1 is gone");
    let error = Error::not_found("task c1").with_source(cause);
    let sent = grpc::to_status(error);
    assert_eq!(sent.message(), "task c1: shim of c1 is gone: not found");
    let whole = Status::decode(sent.details()).unwrap();
    assert_eq!((whole.code, whole.details.len()), (5, 1));
    assert_eq!(whole.details[0].type_url, "google.rpc.Status");
    let nested = Status::decode(whole.details[0].value.as_slice()).unwrap();
    assert_eq!((nested.code, nested.message.as_str()), (14, "shim of c1 is gone: unavailable"));
}

#[test]
fn one_class_alone_has_no_details() {
    let error = Error::not_found("task c1").with_source(Error::not_found("shim of c1"));
    assert!(grpc::to_status(error).details().is_empty());
}
