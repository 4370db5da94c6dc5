//! A store in a folder that goes with the test.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use corten_content_store::{CommitOptions, ContentStore, IngestOptions, LocalStore};
use corten_disk::Disk;
use corten_metadata::{EventSink, Metadata, MetadataEvent, Options, View};
use corten_types::{Any, Descriptor, Digest, ErrorKind, Labels, Namespace, Result};
use sha2::Digest as _;
use tempfile::TempDir;

use crate::doubles::MemorySnapshotter;

/// What was published.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<(String, MetadataEvent)>>);

impl EventSink for Recorder {
    fn publish(&self, namespace: &Namespace, event: MetadataEvent) {
        self.0.lock().unwrap().push((namespace.to_string(), event));
    }
}

impl Recorder {
    pub(crate) fn take(&self) -> Vec<(String, MetadataEvent)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The events without their namespaces.
    pub(crate) fn events(&self) -> Vec<MetadataEvent> {
        self.take().into_iter().map(|(_, event)| event).collect()
    }
}

/// In memory where that can be: nothing here looks at what a real power cut leaves.
pub(crate) fn folder() -> TempDir {
    let in_memory = tempfile::Builder::new().prefix("corten-metadata").tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// A store over a local content store and a snapshotter in memory called `memory`; collections only on request.
pub(crate) struct Fixture {
    pub(crate) root: TempDir,
    pub(crate) content: Arc<LocalStore>,
    pub(crate) snapshotter: Arc<MemorySnapshotter>,
    pub(crate) events: Arc<Recorder>,
    pub(crate) metadata: Metadata,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let root = folder();
        let content = Arc::new(LocalStore::open(&root.path().join("content"), Disk::new()).unwrap());
        let snapshotter = Arc::new(MemorySnapshotter::default());
        let events = Arc::new(Recorder::default());
        let mut options = options(root.path(), content.clone(), &snapshotter, &events);
        change(&mut options);
        let metadata = Metadata::open(options).await.unwrap();
        Self { root, content, snapshotter, events, metadata }
    }

    /// Closes the store and opens it again over the same stores below.
    pub(crate) async fn reopen(&mut self, change: impl FnOnce(&mut Options)) {
        self.metadata.close().await.unwrap();
        let mut options = options(self.root.path(), self.content.clone(), &self.snapshotter, &self.events);
        change(&mut options);
        self.metadata = Metadata::open(options).await.unwrap();
    }

    pub(crate) fn view(&self, namespace: &str) -> View {
        self.metadata.view(namespace.parse().unwrap(), None)
    }

    pub(crate) fn leased(&self, namespace: &str, lease: &str) -> View {
        self.metadata.view(namespace.parse().unwrap(), Some(lease.to_owned()))
    }

    /// Where the blob's file is, whatever namespaces have.
    pub(crate) fn has_bytes(&self, digest: &Digest) -> bool {
        self.root.path().join("content/blobs/sha256").join(digest.hex()).exists()
    }
}

fn options(
    root: &Path,
    content: Arc<dyn ContentStore>,
    snapshotter: &Arc<MemorySnapshotter>,
    events: &Arc<Recorder>,
) -> Options {
    let mut options = Options::new(root.join("metadata.db"), content);
    options.snapshotters.insert("memory".to_owned(), snapshotter.clone());
    options.events = events.clone();
    options.automatic = false;
    options.folders = vec![root.join("content")];
    options
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_hash(corten_types::Algorithm::Sha256, &sha2::Sha256::digest(bytes))
}

pub(crate) fn labels<const N: usize>(entries: [(&str, &str); N]) -> Labels {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn any(text: &str) -> Any {
    Any { type_url: "test".to_owned(), value: text.as_bytes().to_vec().into() }
}

pub(crate) fn descriptor(digest: &Digest) -> Descriptor {
    Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest.clone(), 1)
}

/// Stores a blob with labels.
pub(crate) async fn put(store: &dyn ContentStore, bytes: &'static [u8], labels: Labels) -> Result<Digest> {
    let digest = sha256(bytes);
    let options = IngestOptions { expected: Some(digest.clone()), ..IngestOptions::default() };
    let mut ingest = store.ingest(&format!("put-{}", digest.hex()), options).await?;
    if ingest.status().offset_bytes == 0 {
        ingest.write(bytes.into()).await?;
    }
    ingest.commit(CommitOptions { labels, ..CommitOptions::default() }).await?;
    Ok(digest)
}

#[track_caller]
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("this must be refused").kind()
}
