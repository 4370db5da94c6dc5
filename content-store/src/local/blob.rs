//! An open blob.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use corten_types::{Digest, Error, Result};

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
        blocking(move || {
            let mut buffer = vec![0; length];
            file.read_exact_at(&mut buffer, offset_bytes).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Error::data_loss(format!("blob {digest} was cut below while it was open"))
                }
                _ => failure("read", &digest, error),
            })?;
            Ok(Bytes::from(buffer))
        })
        .await
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
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
