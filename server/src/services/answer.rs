//! From results to answers.

use std::{future::Future, pin::Pin};

use corten_api::grpc::to_status;
use corten_types::{Error, Result};
use futures::{Stream, StreamExt};
use tonic::{Response, Status};

/// What a method answers.
pub(crate) type Answer<T> = std::result::Result<Response<T>, Status>;

/// What a method answers with many messages.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

/// Waits for `work` and answers with what it returns.
pub(crate) async fn respond<T>(work: impl Future<Output = Result<T>>) -> Answer<T> {
    work.await.map(Response::new).map_err(to_status)
}

/// The same for work of several steps that must not stop in between: it goes on when the client leaves.
pub(crate) async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Answer<T> {
    respond(async {
        tokio::spawn(work)
            .await
            .unwrap_or_else(|failure| Err(Error::internal("a request failed half way").with_source(failure)))
    })
    .await
}

/// Answers with every message of `stream`.
pub(crate) fn send_all<T: Send + 'static>(
    stream: impl Stream<Item = Result<T>> + Send + 'static,
) -> Answer<Messages<T>> {
    Ok(Response::new(Box::pin(stream.map(|item| item.map_err(to_status)))))
}

/// What a request must carry.
pub(crate) fn required<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| Error::invalid_argument(format!("{what} is required")))
}
