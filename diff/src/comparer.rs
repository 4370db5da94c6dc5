//! Computing a layer into a content store.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use corten_content_store::{CommitOptions, ContentStore, Ingest, IngestOptions};
use corten_types::{Descriptor, Digest, Error, ErrorKind, Mount, Result, UpdateMask};
use tokio::sync::mpsc;

use crate::{
    CompareOptions, Comparer, Compression, WalkingDiffer,
    compare::{CHUNKS, CompareJob},
    differ::run_on_thread,
    media::{LAYER, LAYER_GZIP, LAYER_ZSTD},
};

/// The label that names the diff id of a compressed layer (row D05).
const UNCOMPRESSED_LABEL: &str = "containerd.io/uncompressed";

#[async_trait]
impl Comparer for WalkingDiffer {
    /// Dropping the future stops the work; an ingest with a random key then stays until it is collected.
    async fn compare(
        &self,
        content: &dyn ContentStore,
        lower: &[Mount],
        upper: &[Mount],
        mut options: CompareOptions,
    ) -> Result<Descriptor> {
        if options.media_type.is_empty() {
            LAYER_GZIP.clone_into(&mut options.media_type);
        }
        let compression = match options.media_type.as_str() {
            LAYER => Compression::None,
            LAYER_GZIP => Compression::Gzip,
            LAYER_ZSTD => Compression::Zstd,
            other => {
                return Err(Error::unimplemented(format!("cannot write layers of the media type {other:?}")));
            }
        };
        let is_random = options.key.is_empty();
        if is_random {
            options.key = random_key();
        }
        let permit = self.admit().await;
        let mut ingest = content.ingest(&options.key, IngestOptions::default()).await?;
        let (chunks, received) = mpsc::channel(CHUNKS);
        let job = CompareJob {
            lower: lower.to_vec(),
            upper: upper.to_vec(),
            compression,
            latest: options.source_date_epoch,
            temporary_folder: self.temporary_folder.clone(),
            chunks,
        };
        let outcome = async {
            // A key that the caller chose may have bytes of an attempt before (row D06).
            if !is_random {
                ingest.truncate().await?;
            }
            let finished = run_on_thread("layer-walk", permit, move || job.run())?;
            let (stored, diff_id) = tokio::join!(store(&mut *ingest, received), finished);
            stored?;
            commit(content, &mut *ingest, compression, &diff_id?, &options).await
        }
        .await;
        drop(ingest);
        if outcome.is_err() && is_random {
            // What cannot be given up now is collected later.
            let _ = content.abort(&options.key).await;
        }
        outcome.map_err(|error| Error::new(error.kind(), "cannot compute the layer").with_source(error))
    }
}

/// Writes every chunk. On an error the channel closes, which ends the threads.
async fn store(ingest: &mut dyn Ingest, mut chunks: mpsc::Receiver<bytes::Bytes>) -> Result<()> {
    while let Some(chunk) = chunks.recv().await {
        ingest.write(chunk).await?;
    }
    Ok(())
}

async fn commit(
    content: &dyn ContentStore,
    ingest: &mut dyn Ingest,
    compression: Compression,
    diff_id: &Digest,
    options: &CompareOptions,
) -> Result<Descriptor> {
    let mut labels = options.labels.clone();
    if compression != Compression::None {
        labels.insert(UNCOMPRESSED_LABEL.into(), diff_id.to_string());
    }
    let digest = ingest.digest().await?;
    let commit = CommitOptions { size_bytes: None, expected: Some(digest.clone()), labels };
    let info = match ingest.commit(commit).await {
        Ok(info) => info,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => content.info(&digest).await?,
        Err(error) => return Err(error),
    };
    if compression != Compression::None && !info.labels.contains_key(UNCOMPRESSED_LABEL) {
        let labels = BTreeMap::from([(UNCOMPRESSED_LABEL.to_owned(), diff_id.to_string())]);
        let mask = UpdateMask::of([format!("labels.{UNCOMPRESSED_LABEL}")]);
        content.update(&digest, &labels, &mask).await?;
    }
    Ok(Descriptor::new(options.media_type.clone(), digest, info.size_bytes))
}

/// A key that nobody else uses: time, process and a counter.
fn random_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{nanoseconds}-{}-{number}", std::process::id())
}
