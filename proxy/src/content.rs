//! A content store in another process.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use corten_api::{
    containerd::services::content::v1::{
        AbortRequest, DeleteContentRequest, Info, InfoRequest, ListContentRequest, ListStatusesRequest,
        ReadContentRequest, Status, StatusRequest, UpdateRequest, content_client::ContentClient,
    },
    convert,
    grpc::from_status,
};
use corten_content_store::{
    Blob, BlobInfo, BlobReader, BlobWriter, Ingest, IngestCatalog, IngestOptions, IngestStatus, Ingester,
};
use corten_filter::Filters;
use corten_types::{Digest, Error, Labels, Result, UpdateMask};
use prost_types::{FieldMask, Timestamp};
use tonic::transport::Channel;

use crate::{Connection, MAX_MESSAGE_BYTES, Scope, ingest::RemoteIngest, listing};

/// The content store behind a connection, in one namespace. Clones share the connection.
///
/// An open blob is read anew each time, so that one that is deleted meanwhile is gone.
#[derive(Clone, Debug)]
pub struct ContentProxy {
    client: ContentClient<Channel>,
    scope: Scope,
}

impl ContentProxy {
    /// The content store that the server behind `connection` has for `scope`.
    #[must_use]
    pub fn new(connection: &Connection, scope: Scope) -> Self {
        let client = ContentClient::new(connection.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, scope }
    }

    pub(crate) fn client(&self) -> ContentClient<Channel> {
        // Cheap: it is a handle on the channel.
        self.client.clone()
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }
}

#[async_trait]
impl BlobReader for ContentProxy {
    async fn info(&self, digest: &Digest) -> Result<BlobInfo> {
        let request = self.scope.request(InfoRequest { digest: digest.to_string() });
        let response = self.client().info(request).await.map_err(from_status)?;
        blob_info(required(response.into_inner().info, "info")?)
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn Blob>> {
        let info = self.info(digest).await?;
        Ok(Arc::new(RemoteBlob { proxy: self.clone(), digest: info.digest, size_bytes: info.size_bytes }))
    }

    /// The protocol knows no pages: each call streams everything that matches.
    async fn list(&self, filters: &Filters, after: Option<&Digest>, limit: usize) -> Result<Vec<BlobInfo>> {
        let request = self.scope.request(ListContentRequest { filters: filters.texts().to_vec() });
        let messages = self.client().list(request).await.map_err(from_status)?.into_inner();
        let read = |message: corten_api::containerd::services::content::v1::ListContentResponse| {
            message.info.into_iter().map(blob_info).collect()
        };
        listing::page(messages, read, |info| info.digest.clone(), after, limit).await
    }
}

#[async_trait]
impl BlobWriter for ContentProxy {
    async fn update(&self, digest: &Digest, labels: &Labels, mask: &UpdateMask) -> Result<BlobInfo> {
        let info = Info { digest: digest.to_string(), labels: labels.clone(), ..Info::default() };
        let update_mask = FieldMask { paths: mask.as_slice().to_vec() };
        let request = self.scope.request(UpdateRequest { info: Some(info), update_mask: Some(update_mask) });
        let response = self.client().update(request).await.map_err(from_status)?;
        blob_info(required(response.into_inner().info, "info")?)
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        let request = self.scope.request(DeleteContentRequest { digest: digest.to_string() });
        self.client().delete(request).await.map(drop).map_err(from_status)
    }
}

#[async_trait]
impl Ingester for ContentProxy {
    async fn ingest(&self, key: &str, options: IngestOptions) -> Result<Box<dyn Ingest>> {
        Ok(Box::new(RemoteIngest::open(self.clone(), key, options).await?))
    }
}

#[async_trait]
impl IngestCatalog for ContentProxy {
    async fn ingest_status(&self, key: &str) -> Result<IngestStatus> {
        let request = self.scope.request(StatusRequest { r#ref: key.to_owned() });
        let response = self.client().status(request).await.map_err(from_status)?;
        ingest_status(required(response.into_inner().status, "status")?)
    }

    async fn list_ingests(&self, filters: &Filters) -> Result<Vec<IngestStatus>> {
        let request = self.scope.request(ListStatusesRequest { filters: filters.texts().to_vec() });
        let response = self.client().list_statuses(request).await.map_err(from_status)?;
        let mut statuses: Vec<_> =
            response.into_inner().statuses.into_iter().map(ingest_status).collect::<Result<_>>()?;
        statuses.sort_by(|first, second| first.key.cmp(&second.key));
        Ok(statuses)
    }

    async fn abort(&self, key: &str) -> Result<()> {
        let request = self.scope.request(AbortRequest { r#ref: key.to_owned() });
        self.client().abort(request).await.map(drop).map_err(from_status)
    }
}

/// A blob that every read asks the server for.
struct RemoteBlob {
    proxy: ContentProxy,
    digest: Digest,
    size_bytes: u64,
}

#[async_trait]
impl Blob for RemoteBlob {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read_at(&self, offset_bytes: u64, length: usize) -> Result<Bytes> {
        let left = self.size_bytes.saturating_sub(offset_bytes);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(length);
        // Zero would ask for everything (row T05).
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let digest = self.digest.to_string();
        let request =
            ReadContentRequest { digest, offset: signed(offset_bytes)?, size: signed(wanted as u64)? };
        let request = self.proxy.scope.request(request);
        let mut messages = self.proxy.client().read(request).await.map_err(from_status)?.into_inner();
        let mut pieces = Pieces::default();
        while let Some(message) = messages.message().await.map_err(from_status)? {
            pieces.add(message.data);
            if pieces.length() > wanted {
                return Err(Error::internal(format!(
                    "the server sent more of blob {} than asked for",
                    self.digest
                )));
            }
        }
        if pieces.length() < wanted {
            let got = pieces.length();
            return Err(Error::data_loss(format!(
                "the server sent {got} of {wanted} bytes of blob {}",
                self.digest
            )));
        }
        Ok(pieces.join())
    }
}

/// Pieces of a read. A single one, which is the rule, is not copied.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    joined: BytesMut,
}

impl Pieces {
    fn add(&mut self, piece: Bytes) {
        if self.length() == 0 {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&piece);
    }

    fn length(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn join(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

fn blob_info(info: Info) -> Result<BlobInfo> {
    Ok(BlobInfo {
        digest: info.digest.parse()?,
        size_bytes: unsigned(info.size, "size")?,
        created_at: moment(info.created_at),
        updated_at: moment(info.updated_at),
        labels: info.labels,
    })
}

fn ingest_status(status: Status) -> Result<IngestStatus> {
    let expected = (!status.expected.is_empty()).then(|| status.expected.parse()).transpose()?;
    Ok(IngestStatus {
        key: status.r#ref,
        offset_bytes: unsigned(status.offset, "offset")?,
        total_bytes: u64::try_from(status.total).ok().filter(|total| *total > 0),
        expected,
        started_at: moment(status.started_at),
        updated_at: moment(status.updated_at),
    })
}

/// The part of an answer that must be there.
pub(crate) fn required<T>(part: Option<T>, what: &str) -> Result<T> {
    part.ok_or_else(|| Error::internal(format!("the server's answer has no {what}")))
}

/// A moment that the server knows; the beginning of 1970 if it does not.
pub(crate) fn moment(timestamp: Option<Timestamp>) -> SystemTime {
    convert::system_time(timestamp.as_ref()).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn unsigned(number: i64, what: &str) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::internal(format!("the server's answer has the {what} {number}")))
}

pub(crate) fn signed(number: u64) -> Result<i64> {
    i64::try_from(number)
        .map_err(|_| Error::invalid_argument(format!("{number} is more than the protocol can say")))
}
