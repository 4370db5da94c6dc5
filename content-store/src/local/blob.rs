//! An open blob.

use std::{
    fs::{File, Metadata},
    io::{self, IoSliceMut},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use corten_types::{Digest, Error, Result};
use rustix::{
    buffer::spare_capacity,
    fs::{Advice, fadvise},
    io::ReadWriteFlags,
};

use super::store::{blocking, unlabelled_info};
use crate::{Blob, BlobInfo};

#[derive(Debug)]
pub(crate) struct LocalBlob {
    digest: Digest,
    size_bytes: u64,
    file: Arc<File>,
}

impl LocalBlob {
    pub(crate) fn open(path: &Path, digest: &Digest) -> Result<Self> {
        let failed = |error: io::Error| failure("open", digest, error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        check_is_file(&metadata, digest)?;
        // A hint: most readers go from the beginning to the end, and the kernel reads further ahead for them.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self { digest: digest.clone(), size_bytes: metadata.len(), file: Arc::new(file) })
    }
}

#[async_trait]
impl Blob for LocalBlob {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read_at(&self, offset_bytes: u64, length: usize) -> Result<Bytes> {
        let left = self.size_bytes.saturating_sub(offset_bytes);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(length);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (file, digest) = (Arc::clone(&self.file), self.digest.clone());
        let begun = read_cached(&file, offset_bytes, length);
        if begun.len() == length {
            return Ok(begun.into());
        }
        blocking(move || {
            let buffer = read_exact(&file, offset_bytes, begun, length)
                .map_err(|error| failure("read", &digest, error))?;
            buffer
                .map(Bytes::from)
                .ok_or_else(|| Error::data_loss(format!("blob {digest} was cut below while it was open")))
        })
        .await
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

/// So much is copied at the most without leaving it to a thread that may block.
const COPIED_AT_ONCE_BYTES: usize = 256 << 10;

/// As many bytes from `offset_bytes` on as the system has in memory; it does not block.
///
/// What was just written or read is there, and then no other thread has to be woken.
fn read_cached(file: &File, offset_bytes: u64, length: usize) -> Vec<u8> {
    if length > COPIED_AT_ONCE_BYTES {
        return Vec::with_capacity(length);
    }
    let mut buffer = vec![0; length];
    let slices = &mut [IoSliceMut::new(&mut buffer)];
    // A filesystem that cannot say reads below, and so does whatever failed: it fails again there.
    let there = rustix::io::preadv2(file, slices, offset_bytes, ReadWriteFlags::NOWAIT).unwrap_or(0);
    buffer.truncate(there);
    buffer
}

/// The bytes from `offset_bytes` on, of which `buffer` has the first; `None` if the file ends before. The buffer is not filled
/// with zeros first.
pub(crate) fn read_exact(
    file: &File,
    offset_bytes: u64,
    mut buffer: Vec<u8>,
    length: usize,
) -> io::Result<Option<Vec<u8>>> {
    buffer.reserve_exact(length.saturating_sub(buffer.len()));
    while buffer.len() < length {
        let offset = offset_bytes + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut buffer), offset) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // An allocator may have given more room than was asked for.
    buffer.truncate(length);
    Ok(Some(buffer))
}

/// What is known of the blob at `path`.
pub(crate) fn info(path: &Path, digest: &Digest) -> Result<BlobInfo> {
    let failed = |error: io::Error| failure("look at", digest, error);
    let metadata = path.symlink_metadata().map_err(failed)?;
    check_is_file(&metadata, digest)?;
    let committed_at = metadata.modified().map_err(failed)?;
    Ok(unlabelled_info(digest.clone(), metadata.len(), committed_at))
}

fn check_is_file(metadata: &Metadata, digest: &Digest) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::data_loss(format!("blob {digest}: there is something else in its place")))
}

pub(crate) fn failure(what: &str, digest: &Digest, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("blob {digest}")),
        _ => Error::io(format!("cannot {what} blob {digest}"), error),
    }
}
