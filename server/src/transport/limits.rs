//! The limit on messages (row X02), enforced on bodies.
//!
//! tonic has limits of its own, which answer with `OutOfRange` where containerd and its clients say `ResourceExhausted`.
//! Messages are counted here by the five bytes that stand before each.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::bulk::Bulk;

/// The largest message that is taken and sent, in bytes (row X02).
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// One byte for the compression, four for the length.
const PREFIX_BYTES: usize = 5;

/// Where in the sequence of messages a body is.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    message_left: usize,
}

impl Messages {
    /// Goes on by `chunk`. Returns the length of a message that is too large.
    fn follow(&mut self, mut chunk: &[u8]) -> Result<(), usize> {
        while !chunk.is_empty() {
            let skipped = self.message_left.min(chunk.len());
            self.message_left -= skipped;
            chunk.advance(skipped);
            if self.message_left > 0 {
                return Ok(());
            }
            let taken = (PREFIX_BYTES - self.prefix_len).min(chunk.len());
            self.prefix[self.prefix_len..][..taken].copy_from_slice(&chunk[..taken]);
            self.prefix_len += taken;
            chunk.advance(taken);
            if self.prefix_len == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length) as usize;
                self.prefix_len = 0;
                if length > MAX_MESSAGE_BYTES {
                    return Err(length);
                }
                self.message_left = length;
            }
        }
        Ok(())
    }
}

fn too_large(what: &str, length: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: {what} message larger than max ({length} vs. {MAX_MESSAGE_BYTES}): resource exhausted"
    ))
}

fn count(bulk: Option<&Bulk>, frame: &Frame<Bytes>) {
    if let (Some(bulk), Some(chunk)) = (bulk, frame.data_ref()) {
        bulk.moved(chunk.len());
    }
}

/// A request's body that fails at a message that is too large.
#[derive(Debug)]
pub(super) struct LimitedRequest<B> {
    inner: B,
    messages: Messages,
    bulk: Option<Arc<Bulk>>,
}

impl<B> LimitedRequest<B> {
    pub(super) fn new(inner: B, bulk: Option<Arc<Bulk>>) -> Self {
        Self { inner, messages: Messages::default(), bulk }
    }
}

impl<B> Body for LimitedRequest<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(failure)) => return Poll::Ready(Some(Err(Status::from_error(Box::new(failure))))),
            Some(Ok(frame)) => frame,
        };
        count(this.bulk.as_deref(), &frame);
        if let Some(chunk) = frame.data_ref()
            && let Err(length) = this.messages.follow(chunk)
        {
            return Poll::Ready(Some(Err(too_large("received", length))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that ends with an error instead of a message that is too large.
#[derive(Debug)]
pub(super) struct LimitedResponse<B> {
    inner: B,
    messages: Messages,
    over: bool,
    bulk: Option<Arc<Bulk>>,
}

impl<B> LimitedResponse<B> {
    pub(super) fn new(inner: B, bulk: Option<Arc<Bulk>>) -> Self {
        Self { inner, messages: Messages::default(), over: false, bulk }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for LimitedResponse<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            count(this.bulk.as_deref(), frame);
        }
        if let Some(Ok(frame)) = &frame
            && let Some(chunk) = frame.data_ref()
            && let Err(length) = this.messages.follow(chunk)
        {
            this.over = true;
            let mut trailers = http::HeaderMap::new();
            if too_large("trying to send", length).add_header(&mut trailers).is_err() {
                return Poll::Ready(None);
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
