//! Where the bytes of a layer come from: a blob's file, or a blob that is read through its store.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use bytes::{Buf, Bytes};
use corten_content_store::Blob;
use corten_types::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

/// How many bytes are asked of a store at once.
const CHUNK_BYTES: usize = 1 << 20;

/// How many chunks wait for the thread that reads them.
const CHUNKS: usize = 4;

/// A blob's bytes for a thread that may block.
pub(crate) enum Source {
    /// From its file, by position: the blob's other readers are not disturbed.
    File {
        /// The file.
        file: File,
        /// The next byte.
        position: u64,
        /// Where to stop.
        end: u64,
    },
    /// From whoever feeds it.
    Fed {
        /// Chunks.
        chunks: mpsc::Receiver<Result<Bytes>>,
        /// What is left of the last.
        current: Bytes,
        /// What is still to come.
        missing: u64,
    },
}

/// What a fed source needs: run [`feed`](Self::feed) while it is read.
pub(crate) struct Feeder {
    blob: Arc<dyn Blob>,
    size_bytes: u64,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Source {
    /// The first `size_bytes` of a blob, and what must feed it if it has no file.
    pub(crate) fn of(blob: Arc<dyn Blob>, size_bytes: u64) -> Result<(Self, Option<Feeder>)> {
        if let Some(file) = blob.file() {
            let file =
                file.try_clone().map_err(|error| Error::io("cannot duplicate a blob's descriptor", error))?;
            return Ok((Self::File { file, position: 0, end: size_bytes }, None));
        }
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let source = Self::Fed { chunks, current: Bytes::new(), missing: size_bytes };
        Ok((source, Some(Feeder { blob, size_bytes, sender })))
    }
}

impl Feeder {
    /// Reads the blob until its end, or until nobody wants more: also one whose next bytes never come.
    pub(crate) async fn feed(self, over: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = over => {}
            () = self.feed_all() => {}
        }
    }

    async fn feed_all(self) {
        let mut position = 0;
        while position < self.size_bytes {
            let rest = usize::try_from(self.size_bytes - position).unwrap_or(usize::MAX);
            let outcome = self.blob.read_at(position, rest.min(CHUNK_BYTES)).await;
            let is_end = outcome.as_ref().map_or(true, Bytes::is_empty);
            position += outcome.as_ref().map_or(0, |chunk| chunk.len() as u64);
            if self.sender.send(outcome).await.is_err() || is_end {
                return;
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File { file, position, end } => {
                let wanted =
                    usize::try_from(*end - *position).map_or(into.len(), |rest| rest.min(into.len()));
                let count = file.read_at(&mut into[..wanted], *position)?;
                if count == 0 && wanted > 0 {
                    return Err(short());
                }
                *position += count as u64;
                Ok(count)
            }
            Self::Fed { chunks, current, missing } => {
                if current.is_empty() && *missing > 0 {
                    let chunk = chunks.blocking_recv().ok_or_else(abandoned)?;
                    *current = chunk.map_err(io::Error::other)?;
                    if current.is_empty() {
                        return Err(short());
                    }
                    *missing = missing.saturating_sub(current.len() as u64);
                }
                let count = current.len().min(into.len());
                current.copy_to_slice(&mut into[..count]);
                Ok(count)
            }
        }
    }
}

fn short() -> io::Error {
    io::Error::other(Error::data_loss("the blob ends before its size; fetch the layer again"))
}

fn abandoned() -> io::Error {
    io::Error::other(Error::new(ErrorKind::Cancelled, "nobody waits for the layer any more"))
}
