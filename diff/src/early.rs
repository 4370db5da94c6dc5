//! Applying a layer while its blob still arrives: into a folder that stays closed until the digest was checked.

use std::{os::fd::OwnedFd, path::Path, pin::pin, sync::Arc};

use async_trait::async_trait;
use corten_content_store::{Blob, FollowedIngest};
use corten_types::{Descriptor, Error, ErrorKind, Mount, Result};
use rustix::fs::{self, Mode, OFlags};
use tokio::sync::oneshot;

use crate::{
    ApplyOptions, EarlyApplier, WalkingDiffer,
    apply::{Chain, Job, observe},
    differ::{CancelOnDrop, run_on_thread},
    source::Source,
    target::Target,
    unpack::{UnpackOptions, is_empty, remove_contents},
};

#[async_trait]
impl EarlyApplier for WalkingDiffer {
    /// It takes one of the places of [`DifferOptions::concurrency`](crate::DifferOptions::concurrency) for as long as the
    /// layer arrives.
    async fn apply_early(
        &self,
        ingest: Arc<dyn FollowedIngest>,
        descriptor: &Descriptor,
        mounts: &[Mount],
        options: ApplyOptions,
    ) -> Result<Descriptor> {
        let digest = &descriptor.digest;
        let chain = Chain::find(&descriptor.media_type, &self.options.processors)?;
        if ingest.size_bytes() != descriptor.size_bytes {
            return Err(Error::invalid_argument(format!(
                "the layer {digest} has {} bytes, and its ingest is followed for {}",
                descriptor.size_bytes,
                ingest.size_bytes()
            )));
        }
        let permit = self.admit().await;
        let (source, feeder) = Source::of(Arc::clone(&ingest) as Arc<dyn Blob>, descriptor.size_bytes)?;
        let job = self.job(source, chain, mounts, options);
        let control = Arc::clone(&job.control);
        let guard = CancelOnDrop(Arc::clone(&control));
        let (verdict, judged) = oneshot::channel();
        let mut finished = pin!(run_on_thread("layer-unpack", permit, move || job.run_early(judged))?);
        let arrival = async {
            if let Some(feeder) = feeder {
                feeder.feed(control.over()).await;
            }
            // Nobody listens any more if the layer was refused.
            let _ = verdict.send(judge(&*ingest, descriptor).await);
        };
        let outcome = tokio::select! {
            biased;
            outcome = &mut finished => outcome,
            () = arrival => finished.await,
        };
        drop(guard);
        outcome.map_err(|error| {
            Error::new(error.kind(), format!("cannot apply the layer {digest} while it arrives"))
                .with_source(error)
        })
    }
}

/// Whether the ingest became the blob that the descriptor names.
async fn judge(ingest: &dyn FollowedIngest, descriptor: &Descriptor) -> Result<()> {
    let actual = ingest.committed().await?;
    if actual == descriptor.digest {
        return Ok(());
    }
    Err(Error::data_loss(format!("the ingest became the blob {actual}; fetch the layer again")))
}

impl Job {
    fn run_early(self, verdict: oneshot::Receiver<Result<()>>) -> Result<Descriptor> {
        let Target::Folder { path, whiteouts, lower_layers } = Target::of(&self.mounts) else {
            return Err(Error::unimplemented(
                "layers that have to be mounted are not applied before they are complete",
            ));
        };
        let options = UnpackOptions { whiteouts, lower_layers, ..self.unpack_options() };
        let closed = ClosedFolder::new(&path)?;
        let sink = self.observer.as_deref().and_then(|observer| observe(observer, &path));
        let is_synced = self.options.sync_fs;
        let verify = || {
            let nobody_waits = || Error::new(ErrorKind::Cancelled, "nobody waits for the layer any more");
            verdict.blocking_recv().unwrap_or_else(|_| Err(nobody_waits()))?;
            closed.open(is_synced)
        };
        let outcome = self.unpack_into(&path, &options, sink, verify);
        if outcome.is_err() {
            closed.give_up(&path);
        }
        outcome
    }
}

/// A folder that only its owner may look into for the time being.
struct ClosedFolder {
    descriptor: OwnedFd,
    mode: Mode,
}

impl ClosedFolder {
    fn new(path: &Path) -> Result<Self> {
        let failed = |errno: rustix::io::Errno| {
            Error::io(format!("cannot prepare {} for a layer", path.display()), errno.into())
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = fs::open(path, flags, Mode::empty()).map_err(failed)?;
        // What was there before could neither be hidden from those who use it, nor brought back after an error.
        if !is_empty(&descriptor).map_err(failed)? {
            return Err(Error::unimplemented(format!(
                "{} is not empty: layers are applied to it when they are complete",
                path.display()
            )));
        }
        let mode = Mode::from_raw_mode(fs::fstat(&descriptor).map_err(failed)?.st_mode & 0o7777);
        fs::fchmod(&descriptor, Mode::RWXU).map_err(failed)?;
        Ok(Self { descriptor, mode })
    }

    fn open(&self, is_synced: bool) -> Result<()> {
        let opened = fs::fchmod(&self.descriptor, self.mode);
        let synced = opened.and_then(|()| if is_synced { fs::fsync(&self.descriptor) } else { Ok(()) });
        synced.map_err(|errno| Error::io("cannot open the folder of a layer that was checked", errno.into()))
    }

    /// Makes it what it was. One that cannot be emptied stays closed.
    fn give_up(&self, path: &Path) {
        let emptied = fs::fchmod(&self.descriptor, Mode::RWXU)
            .and_then(|()| remove_contents(&self.descriptor))
            .and_then(|()| fs::fchmod(&self.descriptor, self.mode));
        if let Err(error) = emptied {
            tracing::warn!(path = %path.display(), %error, "what came of a layer that was given up cannot be removed");
        }
    }
}
