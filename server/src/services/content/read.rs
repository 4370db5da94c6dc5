//! Reading a blob in chunks (row T05).

use std::{ops::Range, sync::Arc};

use corten_api::containerd::services::content::v1::{ReadContentRequest, ReadContentResponse};
use corten_content_store::Blob;
use corten_types::{Error, Result};
use futures::{Stream, StreamExt, stream};

use super::{given_length, length};

/// How long a chunk is, in bytes.
const CHUNK_BYTES: u64 = 1 << 20;

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
