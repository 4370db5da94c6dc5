//! The differ: admission, and the bridge from async callers to the threads that do the work.

use std::{path::PathBuf, sync::Arc, thread};

use async_trait::async_trait;
use corten_content_store::BlobReader;
use corten_types::{Descriptor, Error, Mount, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    Applier, ApplyOptions, StreamProcessor,
    apply::{Chain, Control, Job},
    source::Source,
    unpack::TreeObserver,
};

/// How many layers are worked on at once by default; each takes four threads or more and a few megabytes.
const DEFAULT_CONCURRENCY: usize = 16;

/// How many bytes a layer may have by default: 1 TiB.
const DEFAULT_MAX_LAYER_BYTES: u64 = 1 << 40;

/// How a differ works.
#[derive(Clone, Debug)]
pub struct DifferOptions {
    /// Programs that layers of certain media types are passed through.
    pub processors: Vec<StreamProcessor>,
    /// Flush the target's filesystem after every layer, also if the caller does not ask for it (row D03).
    pub sync_fs: bool,
    /// How many layers are worked on at once; more wait. At least 1.
    pub concurrency: usize,
    /// How many bytes a layer may have, uncompressed; its files, holes included, may have as many together. What a
    /// small blob can become otherwise has no limit but the disk.
    pub max_layer_bytes: u64,
    /// Who is told what layers put into folders. Layers that have to be mounted are not told of.
    pub observer: Option<Arc<dyn TreeObserver>>,
}

impl Default for DifferOptions {
    fn default() -> Self {
        Self {
            processors: Vec::new(),
            sync_fs: false,
            concurrency: DEFAULT_CONCURRENCY,
            max_layer_bytes: DEFAULT_MAX_LAYER_BYTES,
            observer: None,
        }
    }
}

/// Applies and computes layers by walking directories. containerd's differ `walking`.
#[derive(Debug)]
pub struct WalkingDiffer {
    pub(crate) temporary_folder: PathBuf,
    pub(crate) options: DifferOptions,
    admission: Arc<Semaphore>,
}

impl WalkingDiffer {
    /// A differ. What cannot be worked on without mounting is mounted below `temporary_folder` (absolute; made when it is
    /// needed).
    pub fn new(temporary_folder: impl Into<PathBuf>, options: DifferOptions) -> Self {
        let admission = Arc::new(Semaphore::new(options.concurrency.max(1)));
        Self { temporary_folder: temporary_folder.into(), options, admission }
    }

    pub(crate) async fn admit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.admission).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// One layer to unpack, as this differ is configured.
    pub(crate) fn job(&self, source: Source, chain: Chain, mounts: &[Mount], options: ApplyOptions) -> Job {
        Job {
            source,
            chain,
            mounts: mounts.to_vec(),
            options: ApplyOptions { sync_fs: options.sync_fs || self.options.sync_fs, ..options },
            temporary_folder: self.temporary_folder.clone(),
            control: Arc::default(),
            observer: self.options.observer.clone(),
            max_bytes: self.options.max_layer_bytes,
        }
    }
}

#[async_trait]
impl Applier for WalkingDiffer {
    /// Dropping the future stops the work at the next buffer; the mounts are then in the middle of the layer, and may be
    /// written to for a moment more.
    async fn apply(
        &self,
        content: &dyn BlobReader,
        descriptor: &Descriptor,
        mounts: &[Mount],
        options: ApplyOptions,
    ) -> Result<Descriptor> {
        let digest = &descriptor.digest;
        let chain = Chain::find(&descriptor.media_type, &self.options.processors)?;
        let blob = content.open(digest).await?;
        let size_bytes = match descriptor.size_bytes {
            // Not every client knows it.
            0 => blob.size_bytes(),
            stated if stated > blob.size_bytes() => {
                return Err(Error::data_loss(format!(
                    "the layer {digest} should have {stated} bytes, but its blob has {}; fetch it again",
                    blob.size_bytes()
                )));
            }
            stated => stated,
        };
        let permit = self.admit().await;
        let (source, feeder) = Source::of(blob, size_bytes)?;
        let job = self.job(source, chain, mounts, options);
        let control = Arc::clone(&job.control);
        let guard = CancelOnDrop(Arc::clone(&control));
        let finished = run_on_thread("layer-unpack", permit, move || job.run())?;
        let feed = async {
            if let Some(feeder) = feeder {
                feeder.feed(control.over()).await;
            }
        };
        let ((), outcome) = tokio::join!(feed, finished);
        drop(guard);
        outcome.map_err(|error| {
            Error::new(error.kind(), format!("cannot apply the layer {digest}")).with_source(error)
        })
    }
}

pub(crate) struct CancelOnDrop(pub(crate) Arc<Control>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `work` on a thread of its own, which gives its admission back when it ends.
pub(crate) fn run_on_thread<T: Send + 'static>(
    name: &str,
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<impl Future<Output = Result<T>>> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        let outcome = work();
        drop(permit);
        // The caller may be gone.
        let _ = sender.send(outcome);
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::io("cannot start a thread for a layer", error))?;
    Ok(async {
        receiver.await.unwrap_or_else(|_| Err(Error::internal("the thread that works on a layer panicked")))
    })
}
