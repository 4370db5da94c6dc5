//! A content store in memory: what the differ needs of one, with and without files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use corten_content_store::{
    Blob, BlobInfo, BlobReader, BlobWriter, CommitOptions, Ingest, IngestCatalog, IngestOptions,
    IngestStatus, Ingester,
};
use corten_filter::Filters;
use corten_types::{Algorithm, Descriptor, Digest, Error, Labels, Result, UpdateMask};
use sha2::{Digest as _, Sha256};

#[derive(Clone, Default)]
pub(crate) struct Store {
    state: Arc<Mutex<State>>,
    /// Blobs have files.
    pub(crate) with_files: bool,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, (Bytes, Labels)>,
    ingests: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn digest_of(data: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &Sha256::digest(data))
}

impl Store {
    pub(crate) fn add(&self, media_type: &str, data: &[u8]) -> Descriptor {
        let digest = digest_of(data);
        let blob = (Bytes::copy_from_slice(data), Labels::new());
        self.state.lock().unwrap().blobs.insert(digest.to_string(), blob);
        Descriptor::new(media_type, digest, data.len() as u64)
    }

    pub(crate) fn bytes(&self, digest: &Digest) -> Bytes {
        self.state.lock().unwrap().blobs[&digest.to_string()].0.clone()
    }

    pub(crate) fn labels(&self, digest: &Digest) -> Labels {
        self.state.lock().unwrap().blobs[&digest.to_string()].1.clone()
    }

    pub(crate) fn ingest_bytes(&self) -> BTreeMap<String, usize> {
        let state = self.state.lock().unwrap();
        state.ingests.iter().map(|(key, data)| (key.clone(), data.len())).collect()
    }
}

struct MemoryBlob {
    data: Bytes,
    file: Option<File>,
}

#[async_trait]
impl Blob for MemoryBlob {
    fn size_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    async fn read_at(&self, offset_bytes: u64, length: usize) -> Result<Bytes> {
        let start = (offset_bytes as usize).min(self.data.len());
        Ok(self.data.slice(start..(start + length).min(self.data.len())))
    }

    fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

fn info(digest: &Digest, data: &Bytes, labels: &Labels) -> BlobInfo {
    BlobInfo {
        digest: digest.clone(),
        size_bytes: data.len() as u64,
        created_at: SystemTime::UNIX_EPOCH,
        updated_at: SystemTime::UNIX_EPOCH,
        labels: labels.clone(),
    }
}

#[async_trait]
impl BlobReader for Store {
    async fn info(&self, digest: &Digest) -> Result<BlobInfo> {
        let state = self.state.lock().unwrap();
        let found = state.blobs.get(digest.as_str()).ok_or_else(|| Error::not_found("no such blob"))?;
        Ok(info(digest, &found.0, &found.1))
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn Blob>> {
        let state = self.state.lock().unwrap();
        let found = state.blobs.get(digest.as_str()).ok_or_else(|| Error::not_found("no such blob"))?;
        let data = found.0.clone();
        let file = self.with_files.then(|| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&data).unwrap();
            file
        });
        Ok(Arc::new(MemoryBlob { data, file }))
    }

    async fn list(&self, _: &Filters, _: Option<&Digest>, _: usize) -> Result<Vec<BlobInfo>> {
        Err(Error::unimplemented("not needed here"))
    }
}

#[async_trait]
impl BlobWriter for Store {
    async fn update(&self, digest: &Digest, labels: &Labels, _: &UpdateMask) -> Result<BlobInfo> {
        let mut state = self.state.lock().unwrap();
        let found = state.blobs.get_mut(digest.as_str()).ok_or_else(|| Error::not_found("no such blob"))?;
        found.1.extend(labels.clone());
        Ok(info(digest, &found.0, &found.1))
    }

    async fn delete(&self, _: &Digest) -> Result<()> {
        Err(Error::unimplemented("not needed here"))
    }
}

#[async_trait]
impl Ingester for Store {
    async fn ingest(&self, key: &str, _: IngestOptions) -> Result<Box<dyn Ingest>> {
        self.state.lock().unwrap().ingests.entry(key.to_owned()).or_default();
        Ok(Box::new(MemoryIngest { store: self.clone(), key: key.to_owned() }))
    }
}

#[async_trait]
impl IngestCatalog for Store {
    async fn ingest_status(&self, _: &str) -> Result<IngestStatus> {
        Err(Error::unimplemented("not needed here"))
    }

    async fn list_ingests(&self, _: &Filters) -> Result<Vec<IngestStatus>> {
        Err(Error::unimplemented("not needed here"))
    }

    async fn abort(&self, key: &str) -> Result<()> {
        let gone = self.state.lock().unwrap().ingests.remove(key);
        gone.map(drop).ok_or_else(|| Error::not_found("no such ingest"))
    }
}

struct MemoryIngest {
    store: Store,
    key: String,
}

impl MemoryIngest {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T> {
        let mut state = self.store.state.lock().unwrap();
        let data =
            state.ingests.get_mut(&self.key).ok_or_else(|| Error::not_found("the ingest was aborted"))?;
        Ok(work(data))
    }
}

#[async_trait]
impl Ingest for MemoryIngest {
    fn status(&self) -> IngestStatus {
        IngestStatus {
            key: self.key.clone(),
            offset_bytes: self.with(|data| data.len() as u64).unwrap_or(0),
            total_bytes: None,
            expected: None,
            started_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.with(|data| data.extend_from_slice(&bytes))
    }

    async fn truncate(&mut self) -> Result<()> {
        self.with(Vec::clear)
    }

    async fn digest(&mut self) -> Result<Digest> {
        self.with(|data| digest_of(data))
    }

    async fn commit(&mut self, options: CommitOptions) -> Result<BlobInfo> {
        let data: Bytes = self.with(std::mem::take)?.into();
        let digest = digest_of(&data);
        let mut state = self.store.state.lock().unwrap();
        state.ingests.remove(&self.key);
        if state.blobs.contains_key(digest.as_str()) {
            return Err(Error::already_exists("the blob exists"));
        }
        state.blobs.insert(digest.to_string(), (data.clone(), options.labels.clone()));
        Ok(info(&digest, &data, &options.labels))
    }
}
