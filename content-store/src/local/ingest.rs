//! An open ingest: from its first byte to the blob.

use std::{
    fs::{self, FileTimes},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use corten_disk::DiskFile;
use corten_types::{Digest, Error, Labels, Result};

use super::{
    following::Teller,
    hashing::Hashing,
    lane::Lane,
    layout::DATA,
    locks::KeyGuard,
    record,
    store::{FOLDER_MODE, Inner, absent_ingest, unlabelled_info},
};
use crate::{Announcer, BlobInfo, CommitOptions, Hasher, Ingest, IngestOptions, IngestStatus};

/// The longest key of an ingest.
pub const MAX_KEY_BYTES: usize = 32 << 10;

/// After so many bytes their way to the disk begins, so that the sync at the end is short.
const WRITE_BACK_BYTES: u64 = 16 << 20;

const WRITABLE_MODE: u32 = 0o644;

/// Nobody writes into a blob (row T22).
const BLOB_MODE: u32 = 0o444;

/// What the caller holds. The work is done by [`Writer`] on a blocking thread, which goes on when a call is dropped.
pub(crate) struct LocalIngest {
    status: Arc<Mutex<IngestStatus>>,
    /// A fair lock: a call that was given up comes before the next one.
    writer: Arc<tokio::sync::Mutex<Writer>>,
    lane: Lane,
}

/// The ingest itself. It holds the lock on the key.
struct Writer {
    inner: Arc<Inner>,
    folder: PathBuf,
    file: DiskFile,
    hasher: Hasher,
    lane: Lane,
    phase: Phase,
    status: Arc<Mutex<IngestStatus>>,
    /// Goes before the guard: who opens the key next tells anew.
    teller: Teller,
    key: KeyGuard,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Committed, or removed because the blob existed.
    Finished,
    /// The disk failed in a way that leaves the bytes in doubt.
    Damaged,
}

impl LocalIngest {
    /// It blocks.
    pub(crate) fn open(inner: &Arc<Inner>, key: &str, options: IngestOptions) -> Result<Self> {
        if key.is_empty() {
            return Err(Error::invalid_argument("ref must not be empty"));
        }
        if key.len() > MAX_KEY_BYTES {
            let length = key.len();
            return Err(Error::invalid_argument(format!(
                "ref has {length} bytes; at most {MAX_KEY_BYTES} are allowed"
            )));
        }
        let guard = inner.keys.take(key)?;
        if let Some(expected) = &options.expected
            && inner.has_blob(expected)?
        {
            return Err(Error::already_exists(format!("blob {expected}")));
        }
        Writer::open(inner, key, options, guard).map(|writer| Self {
            status: Arc::clone(&writer.status),
            lane: writer.lane.clone(),
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
        })
    }

    /// The digest, unless a call that was given up still works. It does not block: what is hashed was hashed by the writes.
    fn digest_at_once(&self) -> Option<Result<Digest>> {
        let writer = self.writer.try_lock().ok()?;
        Some(writer.check_open().map(|()| writer.hasher.digest()))
    }

    async fn run<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let action = move || {
            writer.check_open()?;
            action(&mut writer)
        };
        self.lane.call(action).await
    }
}

impl Drop for LocalIngest {
    fn drop(&mut self) {
        self.lane.close();
    }
}

#[async_trait]
impl Ingest for LocalIngest {
    fn status(&self) -> IngestStatus {
        lock(&self.status).clone()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.write_pieces(vec![bytes]).await
    }

    async fn write_pieces(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        self.run(move |writer| writer.append(pieces)).await
    }

    fn announcer(&self) -> Option<Box<dyn Announcer>> {
        Some(Box::new(self.lane.clone()))
    }

    async fn truncate(&mut self) -> Result<()> {
        self.run(Writer::truncate).await
    }

    async fn digest(&mut self) -> Result<Digest> {
        match self.digest_at_once() {
            Some(digest) => digest,
            None => self.run(|writer| Ok(writer.hasher.digest())).await,
        }
    }

    async fn commit(&mut self, options: CommitOptions) -> Result<BlobInfo> {
        self.run(move |writer| writer.commit(&options)).await
    }
}

impl Writer {
    fn open(inner: &Arc<Inner>, key: &str, options: IngestOptions, guard: KeyGuard) -> Result<Self> {
        let folder = inner.layout.ingest(key);
        let failed = |error| Error::io(format!("cannot open ingest {key}"), error);
        let known = record::read(&folder).map_err(failed)?.filter(|status| may_resume(status, key, &options));
        let offset_bytes = known.as_ref().map_or(0, |status| status.offset_bytes);
        check_space(inner, key, options.size_bytes.unwrap_or(0).saturating_sub(offset_bytes))?;

        let algorithm = options.expected.as_ref().map(Digest::algorithm).unwrap_or_default();
        let mut hasher = Hasher::new(algorithm);
        let resumed = match known {
            Some(status) => resume(inner, &folder, &mut hasher).map_err(failed)?.map(|file| (status, file)),
            None => None,
        };
        let (mut status, mut file) = match resumed {
            Some(resumed) => resumed,
            None => begin(inner, &folder, key, options.size_bytes).map_err(failed)?,
        };
        file.start_write_back_every(WRITE_BACK_BYTES);
        status.offset_bytes = file.length_bytes();
        status.total_bytes = status.total_bytes.or(options.size_bytes);
        status.expected = options.expected;
        let teller = inner.tellers.begin(key, file.length_bytes());
        Ok(Self {
            inner: Arc::clone(inner),
            folder,
            file,
            lane: Lane::new(&hasher),
            hasher,
            phase: Phase::Open,
            status: Arc::new(Mutex::new(status)),
            teller,
            key: guard,
        })
    }

    fn check_open(&self) -> Result<()> {
        let key = self.key();
        match self.phase {
            Phase::Open => Ok(()),
            Phase::Finished => Err(Error::failed_precondition(format!("ingest {key} is finished"))),
            Phase::Damaged => Err(Error::data_loss(format!(
                "ingest {key} was given up after the disk failed; open it again"
            ))),
        }
    }

    fn key(&self) -> &str {
        self.key.key()
    }

    fn failure(&self, what: &str, error: io::Error) -> Error {
        Error::io(format!("cannot {what} ingest {}", self.key()), error)
    }

    fn append(&mut self, mut pieces: Vec<Bytes>) -> Result<()> {
        pieces.retain(|piece| !piece.is_empty());
        let known = self.lane.resume(&self.hasher, &pieces);
        let unhashed = &pieces[known.hashed_len..];
        let hashing = if known.was_announced {
            // Most is hashed already, and more of it comes: waking another thread for the rest costs more than it saves.
            Hashing::begin_here(known.hasher, unhashed)
        } else {
            Hashing::begin(&known.hasher, unhashed)
        };
        let length_before = self.file.length_bytes();
        if let Err(error) = self.file.append_pieces(&pieces) {
            self.lane.begin_anew(&self.hasher);
            // All or nothing: what arrived of these bytes goes again.
            if self.file.length_bytes() != length_before && self.file.set_length(length_before).is_err() {
                self.give_up();
            }
            return Err(self.failure("write to", error));
        }
        self.hasher = hashing.finish();
        self.lane.go_on(&self.hasher);
        self.report();
        Ok(())
    }

    fn truncate(&mut self) -> Result<()> {
        self.teller.restart();
        self.file.set_length(0).map_err(|error| self.failure("truncate", error))?;
        self.hasher = Hasher::new(self.hasher.algorithm());
        self.lane.begin_anew(&self.hasher);
        self.report();
        Ok(())
    }

    fn report(&self) {
        let mut status = lock(&self.status);
        status.offset_bytes = self.file.length_bytes();
        status.updated_at = SystemTime::now();
        drop(status);
        self.teller.progress(self.file.length_bytes());
    }

    fn commit(&mut self, options: &CommitOptions) -> Result<BlobInfo> {
        let digest = self.check(options)?;
        let mut labels = options.labels.clone();
        self.inner.check_labels(&mut labels, &digest)?;
        if self.inner.has_blob(&digest)? {
            return Err(self.finish_for_existing(&digest));
        }
        let committed_at = SystemTime::now();
        self.make_durable(committed_at)?;
        let inner = Arc::clone(&self.inner);
        inner.digests.hold(&digest, || self.publish(&digest, &labels))?;
        self.finish(&digest);
        Ok(BlobInfo { labels, ..unlabelled_info(digest, self.file.length_bytes(), committed_at) })
    }

    /// The digest of the bytes, if they are what `options` promise.
    fn check(&self, options: &CommitOptions) -> Result<Digest> {
        let size_bytes = self.file.length_bytes();
        if let Some(wanted) = options.size_bytes
            && wanted != size_bytes
        {
            let key = self.key();
            return Err(Error::failed_precondition(format!(
                "ingest {key} has {size_bytes} bytes, expected {wanted}"
            )));
        }
        let Some(expected) = &options.expected else { return Ok(self.hasher.digest()) };
        let actual = if expected.algorithm() == self.hasher.algorithm() {
            self.hasher.digest()
        } else {
            // Nobody said so when it was opened: everything is hashed once more (row T20).
            hash_of(&self.file, Hasher::new(expected.algorithm()))
                .map_err(|error| self.failure("hash", error))?
                .digest()
        };
        if actual != *expected {
            let key = self.key();
            return Err(Error::failed_precondition(format!(
                "ingest {key} hashes to {actual}, expected {expected}"
            )));
        }
        Ok(actual)
    }

    /// Brings bytes and mode to stable storage.
    fn make_durable(&mut self, committed_at: SystemTime) -> Result<()> {
        // Only for show: the time of the file is the time of the commit.
        let _ = self.file.reader().set_times(FileTimes::new().set_modified(committed_at));
        self.file.set_mode(BLOB_MODE).map_err(|error| self.failure("protect", error))?;
        self.file.sync_all().map_err(|error| {
            // What is on the disk is unknown, and another sync might wrongly succeed. The bytes must come again.
            self.give_up();
            self.remove_folder();
            self.failure("sync", error)
        })
    }

    /// Gives the data its name among the blobs. The caller holds the lock of `digest`.
    fn publish(&mut self, digest: &Digest, labels: &Labels) -> Result<()> {
        if self.inner.has_blob_while_held(digest)? {
            return Err(self.finish_for_existing(digest));
        }
        self.inner.keep_labels(digest, labels)?;
        let (data, blob) = (self.folder.join(DATA), self.inner.layout.blob(digest));
        self.inner.disk.rename(&data, &blob).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => absent_ingest(self.key()),
            _ => self.failure("rename", error),
        })?;
        let synced = self.inner.disk.sync_folder(&self.inner.layout.blobs_of(digest.algorithm()));
        synced.map_err(|error| {
            // Not acknowledged, so nobody may take it for committed: back, or away if the ingest was aborted meanwhile.
            if self.inner.disk.rename(&blob, &data).is_err() {
                self.give_up();
                let _ = fs::remove_file(&blob);
            }
            self.failure("sync the folder of", error)
        })?;
        self.inner.names.changed(digest, true);
        Ok(())
    }

    fn finish_for_existing(&mut self, digest: &Digest) -> Error {
        self.finish(digest);
        Error::already_exists(format!("blob {digest}"))
    }

    fn finish(&mut self, digest: &Digest) {
        self.phase = Phase::Finished;
        self.teller.committed(digest, self.file.length_bytes());
        self.remove_folder();
    }

    fn give_up(&mut self) {
        self.phase = Phase::Damaged;
        self.teller.damaged();
    }

    /// As far as possible: what is left is in no listing, and is removed when the key is used again.
    fn remove_folder(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether an ingest that is on the disk can be gone on with (row T18).
fn may_resume(status: &IngestStatus, key: &str, options: &IngestOptions) -> bool {
    let Some(size_bytes) = options.size_bytes else { return status.key == key };
    status.key == key
        && status.total_bytes.is_none_or(|total| total == size_bytes)
        && status.offset_bytes <= size_bytes
}

/// Refuses what cannot fit, before anything changes.
fn check_space(inner: &Inner, key: &str, needed_bytes: u64) -> Result<()> {
    if needed_bytes == 0 {
        return Ok(());
    }
    let space = corten_disk::space(inner.layout.root())
        .map_err(|error| Error::io(format!("cannot look at the space for ingest {key}"), error))?;
    if needed_bytes > space.free_bytes {
        return Err(Error::resource_exhausted(format!(
            "ingest {key} needs {needed_bytes} bytes and the disk has {} free",
            space.free_bytes
        )));
    }
    Ok(())
}

/// Opens the data that is there and hashes it; `None` if it must not be written to.
fn resume(inner: &Inner, folder: &Path, hasher: &mut Hasher) -> io::Result<Option<DiskFile>> {
    let mut file = inner.disk.open_append(&folder.join(DATA))?;
    let metadata = file.reader().metadata()?;
    if metadata.nlink() != 1 {
        // A crash in the middle of a rename may leave the file under both names: it is a blob.
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o200 == 0 {
        file.set_mode(WRITABLE_MODE)?;
    }
    // Bytes are never left out when they are written: a hole is what a power cut took, and its length is no progress.
    let arrived = file.first_hole_bytes()?;
    if arrived < file.length_bytes() {
        file.set_length(arrived)?;
    }
    *hasher = hash_of(&file, hasher.clone())?;
    Ok(Some(file))
}

/// Makes a new ingest, in place of what may be there.
fn begin(
    inner: &Inner,
    folder: &Path,
    key: &str,
    size_bytes: Option<u64>,
) -> io::Result<(IngestStatus, DiskFile)> {
    match inner.remove_ingest(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    let now = SystemTime::now();
    inner.disk.create_dir(folder, FOLDER_MODE)?;
    record::write(&inner.disk, folder, key, size_bytes, now)?;
    let file = inner.disk.create_new(&folder.join(DATA), WRITABLE_MODE)?;
    let status = IngestStatus {
        key: key.to_owned(),
        offset_bytes: 0,
        total_bytes: size_bytes,
        expected: None,
        started_at: now,
        updated_at: now,
    };
    Ok((status, file))
}

/// Adds the whole file to `hasher`.
fn hash_of(file: &DiskFile, mut hasher: Hasher) -> io::Result<Hasher> {
    let mut reader = file.reader();
    io::Seek::rewind(&mut reader)?;
    let hashed_bytes = hasher.update_from(reader)?;
    if hashed_bytes != file.length_bytes() {
        return Err(io::Error::other("the file changed while it was hashed"));
    }
    Ok(hasher)
}

fn lock(status: &Mutex<IngestStatus>) -> MutexGuard<'_, IngestStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}
