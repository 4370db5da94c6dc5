//! Reading a blob in chunks (row T05).

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use corten_api::{
    containerd::services::content::v1::{ReadContentRequest, ReadContentResponse},
    grpc::to_status,
};
use corten_content_store::Blob;
use corten_types::{Error, Result};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use prost::{Message, encode_length_delimiter};
use tonic::Status;

use super::{given_length, length};
use crate::transport::GrpcBody;

/// How long a chunk is, in bytes. What was read from the file is still in the processor's cache when it goes into the socket.
const CHUNK_BYTES: u64 = 256 << 10;

/// How many chunks are read from the disk while the client takes one.
const CHUNKS_AHEAD: usize = 2;

/// Which bytes of a blob are meant: a negative offset is the beginning; no size, or one past the end, is all of the rest.
pub(super) fn range(request: &ReadContentRequest, size_bytes: u64) -> Result<Range<u64>> {
    let start = u64::try_from(request.offset).unwrap_or(0);
    if start > size_bytes {
        return Err(Error::out_of_range(format!(
            "read of {} at offset {start} past its end at {size_bytes}",
            request.digest
        )));
    }
    let rest = size_bytes - start;
    Ok(start..start + given_length(request.size).unwrap_or(rest).min(rest))
}

/// The chunks of a range. The offsets that are told count from the beginning of the range.
pub(super) fn chunks(
    blob: Arc<dyn Blob>,
    range: Range<u64>,
) -> impl Stream<Item = Result<ReadContentResponse>> {
    let step = usize::try_from(CHUNK_BYTES).expect("a chunk fits in memory");
    stream::iter(range.clone().step_by(step))
        .map(move |start| {
            let (blob, range) = (blob.clone(), range.clone());
            async move {
                let wanted =
                    usize::try_from(CHUNK_BYTES.min(range.end - start)).expect("a chunk fits in memory");
                let data = blob.read_at(start, wanted).await?;
                if data.len() < wanted {
                    return Err(Error::data_loss(format!(
                        "a blob of {} bytes ends after {}",
                        blob.size_bytes(),
                        start + data.len() as u64
                    )));
                }
                Ok(ReadContentResponse { offset: length(start - range.start), data })
            }
        })
        .buffered(CHUNKS_AHEAD)
}

/// The key of the field `data` of an answer: number 2, with a length.
const DATA_KEY: u8 = 2 << 3 | 2;

/// What stands before the data of a message: five bytes of gRPC, the offset, and the key and length of the data.
const HEAD_BYTES: usize = 32;

/// Answers with these chunks.
pub(super) fn response<S>(chunks: S) -> Response<GrpcBody>
where
    S: Stream<Item = Result<ReadContentResponse>> + Send + Unpin + 'static,
{
    let mut response = Response::new(GrpcBody::new(Chunks { chunks, data: None, is_over: false }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A body of messages that are not put together: the data of each goes to the connection as it was read.
struct Chunks<S> {
    chunks: S,
    /// What comes after the head that was sent last.
    data: Option<Bytes>,
    is_over: bool,
}

impl<S> Body for Chunks<S>
where
    S: Stream<Item = Result<ReadContentResponse>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let status = match ready!(self.chunks.poll_next_unpin(context)) {
            Some(Ok(ReadContentResponse { offset, data })) => {
                let head = head(offset, data.len());
                self.data = Some(data);
                return Poll::Ready(Some(Ok(Frame::data(head))));
            }
            Some(Err(error)) => to_status(error),
            None => Status::ok(""),
        };
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

/// What stands before `data_bytes` of data.
fn head(offset: i64, data_bytes: usize) -> Bytes {
    let message = ReadContentResponse { offset, data: Bytes::new() };
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_bytes(0, 5);
    message.encode(&mut head).expect("the buffer grows");
    head.put_u8(DATA_KEY);
    encode_length_delimiter(data_bytes, &mut head).expect("the buffer grows");
    let message_bytes = u32::try_from(head.len() - 5 + data_bytes).expect("a chunk is short");
    head[1..5].copy_from_slice(&message_bytes.to_be_bytes());
    head.freeze()
}
