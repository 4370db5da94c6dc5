//! Calls to the daemon in one namespace.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use corten_api::{
    containerd::services::leases::v1::{
        CreateRequest, DeleteRequest, ListRequest, leases_client::LeasesClient,
    },
    grpc::from_status,
};
use corten_content_store::{
    BlobReader, CommitOptions, Hasher, Ingest, IngestCatalog, IngestOptions, Ingester,
};
use corten_filter::Filters;
use corten_proxy::{Connection, ContentProxy, Scope, SnapshotterProxy};
use corten_types::{Algorithm, Digest, ErrorKind, Labels, Namespace, Result};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tonic::{Request, transport::Channel};

use crate::ledger::Ledger;

pub(crate) struct Session {
    connection: Connection,
    namespace: Namespace,
}

impl Session {
    /// Who is not there is not waited for.
    pub(crate) fn open(socket: &Path, namespace: &str) -> Self {
        let connection = Connection::unix_with_patience(socket, Duration::ZERO);
        Self { connection, namespace: namespace.parse().unwrap() }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(crate) fn content(&self) -> ContentProxy {
        ContentProxy::new(&self.connection, Scope::new(&self.namespace))
    }

    pub(crate) fn content_under(&self, lease: &str) -> ContentProxy {
        ContentProxy::new(&self.connection, Scope::new(&self.namespace).under_lease(lease).unwrap())
    }

    pub(crate) fn snapshots(&self, snapshotter: &str) -> SnapshotterProxy {
        SnapshotterProxy::new(&self.connection, Scope::new(&self.namespace), snapshotter)
    }

    pub(crate) fn socket(&self) -> &Path {
        self.connection.path()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.connection.channel()
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.as_str().parse().unwrap());
        request
    }

    pub(crate) async fn create_lease(&self, id: &str) -> Result<()> {
        let request = self.request(CreateRequest { id: id.to_owned(), ..CreateRequest::default() });
        LeasesClient::new(self.channel()).create(request).await.map(drop).map_err(from_status)
    }

    pub(crate) async fn delete_lease(&self, id: &str, sync: bool) -> Result<()> {
        let request = self.request(DeleteRequest { id: id.to_owned(), sync });
        LeasesClient::new(self.channel()).delete(request).await.map(drop).map_err(from_status)
    }

    pub(crate) async fn leases(&self) -> BTreeMap<String, ()> {
        let request = self.request(ListRequest::default());
        let response = LeasesClient::new(self.channel()).list(request).await.unwrap();
        response.into_inner().leases.into_iter().map(|lease| (lease.id, ())).collect()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

/// The same bytes for the same number, others for any other: often few, sometimes millions.
pub(crate) fn bytes_of(number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(number);
    let most = [16, 10_000, 300_000, 300_000, 3_000_000][random.random_range(0..5)];
    let mut bytes = vec![0; random.random_range(8..=most)];
    random.fill_bytes(&mut bytes);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The label that keeps from being collected.
pub(crate) fn kept(step: u64) -> Labels {
    [("containerd.io/gc.root", "kept".to_owned()), ("step", step.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

/// Opens an ingest and writes the first `length` of `bytes` in a few pieces.
pub(crate) async fn write(
    store: &ContentProxy,
    key: &str,
    bytes: &[u8],
    length: usize,
) -> Result<Box<dyn Ingest>> {
    let mut ingest = store.ingest(key, IngestOptions::default()).await?;
    for piece in bytes[..length].chunks(bytes.len() / 3 + 1) {
        ingest.write(Bytes::copy_from_slice(piece)).await?;
    }
    Ok(ingest)
}

pub(crate) fn commit_options(bytes: &[u8], labels: Labels) -> CommitOptions {
    CommitOptions { size_bytes: Some(bytes.len() as u64), expected: Some(sha256(bytes)), labels }
}

/// Every blob, each read to its end.
pub(crate) async fn read_all(store: &ContentProxy) -> BTreeMap<String, Labels> {
    let mut seen = BTreeMap::new();
    for info in store.list(&Filters::all(), None, usize::MAX).await.unwrap() {
        // What nothing keeps may be collected between the two calls.
        let blob = match store.open(&info.digest).await {
            Ok(blob) => blob,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{} is listed and cannot be read: {error:?}", info.digest),
        };
        let length = usize::try_from(info.size_bytes).unwrap();
        let bytes = match blob.read_at(0, length).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{} is listed and cannot be read: {error:?}", info.digest),
        };
        assert_eq!(bytes.len(), length, "{} has another size", info.digest);
        assert_eq!(sha256(&bytes), info.digest, "the bytes are others");
        seen.insert(info.digest.to_string(), info.labels);
    }
    seen
}

/// Every ingest, opened again: each holds a beginning of the bytes that were sent to it. Where `may_be_torn`, because the power was cut
/// and nobody had synced them, they may be others: then the ingest must be refused as a blob, and begins anew.
pub(crate) async fn reopened(
    store: &ContentProxy,
    sent: &Ledger<Arc<Vec<u8>>>,
    may_be_torn: bool,
) -> Vec<(String, Box<dyn Ingest>)> {
    let mut ingests = Vec::new();
    for status in store.list_ingests(&Filters::all()).await.unwrap() {
        let bytes = sent.possible(&status.key).unwrap_or_else(|| panic!("nobody began {status:?}"));
        let mut ingest = store.ingest(&status.key, IngestOptions::default()).await.unwrap();
        let offset = usize::try_from(ingest.status().offset_bytes).unwrap();
        assert!(offset <= bytes.len(), "{status:?} got {} bytes", bytes.len());
        let is_whole = ingest.digest().await.unwrap() == sha256(&bytes[..offset]);
        assert!(is_whole || may_be_torn, "{status:?} holds other bytes");
        if !is_whole {
            println!("{} is torn within its {offset} bytes", status.key);
            ingest.write(Bytes::copy_from_slice(&bytes[offset..])).await.unwrap();
            let refusal = ingest.commit(commit_options(bytes, Labels::new())).await.unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::FailedPrecondition, "{refusal:?}");
            drop(ingest);
            ingest = store.ingest(&status.key, IngestOptions::default()).await.unwrap();
            ingest.truncate().await.unwrap();
        }
        ingests.push((status.key, ingest));
    }
    ingests
}
