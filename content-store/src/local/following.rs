//! Reading an ingest while it is written: what its writer tells, and who listens.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use corten_types::{Digest, Error, ErrorKind, Result};
use tokio::sync::watch;

use super::{
    blob::read_exact,
    layout::DATA,
    store::{Inner, absent_ingest, blocking},
};
use crate::{Blob, FollowedIngest};

/// How far an ingest is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// It has so many bytes, and nobody takes them back.
    Writing(u64),
    /// It is a blob.
    Committed { digest: Digest, size_bytes: u64 },
    /// Its bytes will not become one, and why.
    Ended(&'static str),
}

/// The ingests that are being written, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Tellers(Mutex<HashMap<String, Arc<watch::Sender<Progress>>>>);

/// What the writer of an ingest tells its followers. At its end they are told that nobody writes any more.
pub(crate) struct Teller {
    tellers: Arc<Tellers>,
    key: String,
    sender: Arc<watch::Sender<Progress>>,
}

impl Tellers {
    /// A new ingest is written, or one that was begun.
    pub(crate) fn begin(self: &Arc<Self>, key: &str, length_bytes: u64) -> Teller {
        let sender = Arc::new(watch::Sender::new(Progress::Writing(length_bytes)));
        self.lock().insert(key.to_owned(), Arc::clone(&sender));
        Teller { tellers: Arc::clone(self), key: key.to_owned(), sender }
    }

    /// The bytes of `key` were given up, whether or not its writer knows.
    pub(crate) fn give_up(&self, key: &str) {
        if let Some(sender) = self.lock().get(key) {
            end(sender, "was aborted");
        }
    }

    fn listen(&self, key: &str) -> Option<watch::Receiver<Progress>> {
        self.lock().get(key).map(|sender| sender.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<watch::Sender<Progress>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    /// There are so many bytes now.
    pub(crate) fn progress(&self, length_bytes: u64) {
        change(&self.sender, || Progress::Writing(length_bytes));
    }

    /// The bytes so far are about to be thrown away. Who follows from now on sees those that come then.
    pub(crate) fn restart(&mut self) {
        if *self.sender.borrow() == Progress::Writing(0) {
            return;
        }
        end(&self.sender, "was begun anew");
        self.sender = Arc::new(watch::Sender::new(Progress::Writing(0)));
        self.tellers.lock().insert(self.key.clone(), Arc::clone(&self.sender));
    }

    /// The bytes are a blob.
    pub(crate) fn committed(&self, digest: &Digest, size_bytes: u64) {
        change(&self.sender, || Progress::Committed { digest: digest.clone(), size_bytes });
    }

    /// The disk failed, and the bytes must come again.
    pub(crate) fn damaged(&self) {
        end(&self.sender, "was given up because the disk failed");
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.tellers.lock().remove(&self.key);
        end(&self.sender, "has no writer any more");
    }
}

fn end(sender: &watch::Sender<Progress>, why: &'static str) {
    change(sender, || Progress::Ended(why));
}

/// What has ended stays as it is.
fn change(sender: &watch::Sender<Progress>, next: impl FnOnce() -> Progress) {
    sender.send_if_modified(|progress| {
        let is_open = matches!(progress, Progress::Writing(_));
        if is_open {
            *progress = next();
        }
        is_open
    });
}

/// An ingest that is read while it is written.
pub(crate) struct Follower {
    key: String,
    file: Arc<File>,
    size_bytes: u64,
    progress: watch::Receiver<Progress>,
}

impl Follower {
    /// It blocks.
    pub(crate) fn open(inner: &Inner, key: &str, size_bytes: u64) -> Result<Self> {
        let failed = |error| Error::io(format!("cannot follow ingest {key}"), error);
        let progress = inner.tellers.listen(key).ok_or_else(|| absent_ingest(key))?;
        let file = match File::open(inner.layout.ingest(key).join(DATA)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Committed this very moment, or aborted.
                let Progress::Committed { digest, .. } = progress.borrow().clone() else {
                    return Err(absent_ingest(key));
                };
                File::open(inner.layout.blob(&digest)).map_err(failed)?
            }
            outcome => outcome.map_err(failed)?,
        };
        Ok(Self { key: key.to_owned(), file: Arc::new(file), size_bytes, progress })
    }

    /// Waits until `wanted` finds what it looks for, or nothing more can come.
    async fn wait_for<T>(&self, wanted: impl Fn(&Progress) -> Option<Result<T>> + Send + Sync) -> Result<T> {
        let key = &self.key;
        let mut progress = self.progress.clone();
        let found = progress
            .wait_for(|progress| matches!(progress, Progress::Ended(_)) || wanted(progress).is_some());
        let now = match found.await {
            Ok(now) => now.clone(),
            // Senders say how it ended before they go; the last word is still there.
            Err(_) => self.progress.borrow().clone(),
        };
        match (wanted(&now), now) {
            (Some(outcome), _) => outcome,
            (None, Progress::Ended(why)) => {
                Err(Error::new(ErrorKind::Aborted, format!("ingest {key} {why} while it was read")))
            }
            (None, _) => Err(Error::internal(format!("ingest {key} ended without a word"))),
        }
    }

    fn check_size(&self, size_bytes: u64) -> Result<()> {
        if size_bytes == self.size_bytes {
            return Ok(());
        }
        Err(Error::data_loss(format!(
            "ingest {} became a blob of {size_bytes} bytes instead of {}",
            self.key, self.size_bytes
        )))
    }
}

#[async_trait]
impl Blob for Follower {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read_at(&self, offset_bytes: u64, length: usize) -> Result<Bytes> {
        let left = self.size_bytes.saturating_sub(offset_bytes);
        if left == 0 || length == 0 {
            return Ok(Bytes::new());
        }
        let available = self
            .wait_for(|progress| match progress {
                Progress::Writing(length_bytes) if *length_bytes > offset_bytes => Some(Ok(*length_bytes)),
                Progress::Committed { size_bytes, .. } if *size_bytes > offset_bytes => Some(Ok(*size_bytes)),
                Progress::Committed { size_bytes, .. } => Some(self.check_size(*size_bytes).map(|()| 0)),
                _ => None,
            })
            .await?;
        let left = left.min(available.saturating_sub(offset_bytes));
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(length);
        let file = Arc::clone(&self.file);
        let read = blocking(move || {
            read_exact(&file, offset_bytes, Vec::new(), length)
                .map_err(|error| Error::io("cannot read an ingest", error))
        })
        .await?;
        // A writer says that it begins anew before it cuts the file.
        let has_ended = matches!(&*self.progress.borrow(), Progress::Ended(_));
        if has_ended {
            return self.wait_for(|_| None).await;
        }
        let cut = || Error::data_loss(format!("ingest {} was cut while it was read", self.key));
        read.map(Bytes::from).ok_or_else(cut)
    }
}

#[async_trait]
impl FollowedIngest for Follower {
    async fn committed(&self) -> Result<Digest> {
        self.wait_for(|progress| match progress {
            Progress::Committed { digest, size_bytes } => {
                Some(self.check_size(*size_bytes).map(|()| digest.clone()))
            }
            _ => None,
        })
        .await
    }
}
