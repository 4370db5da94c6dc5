//! `containerd.services.content.v1.Content` (§1.2 of the behaviour table).

mod read;
mod requests;
mod serve;
mod write;

use corten_api::{
    containerd::services::content::v1::{
        AbortRequest, DeleteContentRequest, Info, InfoRequest, InfoResponse, ListContentRequest,
        ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest,
        ReadContentResponse, Status as WireStatus, StatusRequest, StatusResponse, UpdateRequest,
        UpdateResponse, WriteContentRequest, WriteContentResponse, content_server::Content,
    },
    convert::{timestamp, update_mask},
};
use corten_content_store::{BlobInfo, BlobReader, BlobWriter, IngestCatalog, IngestStatus};
use corten_filter::Filters;
use corten_metadata::Metadata;
use corten_types::{Digest, Result};
use futures::{Stream, TryStreamExt};
use tonic::{Request, Streaming, metadata::MetadataMap};

use self::requests::Requests;
pub use self::serve::ContentGrpc;
use super::{
    answer::{Answer, Messages, required, respond, send_all},
    pages::{PAGE_LEN, pages},
};
use crate::request::view;

/// Keeps blobs.
#[derive(Clone, Debug)]
pub struct ContentService {
    metadata: Metadata,
}

impl ContentService {
    /// Over the blobs of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> ContentGrpc {
        ContentGrpc::new(self)
    }

    async fn read_chunks(
        &self,
        metadata: &MetadataMap,
        request: &ReadContentRequest,
    ) -> Result<impl Stream<Item = Result<ReadContentResponse>> + use<>> {
        let content = view(&self.metadata, metadata)?.content();
        let blob = content.open(&request.digest.parse()?).await?;
        let range = read::range(request, blob.size_bytes())?;
        Ok(read::chunks(blob, range))
    }

    /// Answers at once; what goes wrong, from the first message on, ends the stream.
    async fn answer_writes(
        &self,
        metadata: &MetadataMap,
        requests: Requests,
    ) -> Answer<Messages<WriteContentResponse>> {
        let content = respond(async { Ok(view(&self.metadata, metadata)?.content()) }).await?.into_inner();
        Ok(tonic::Response::new(write::answers(content, requests)))
    }
}

#[tonic::async_trait]
impl Content for ContentService {
    async fn abort(&self, request: Request<AbortRequest>) -> Answer<()> {
        respond(async {
            view(&self.metadata, request.metadata())?.content().abort(&request.get_ref().r#ref).await
        })
        .await
    }

    async fn delete(&self, request: Request<DeleteContentRequest>) -> Answer<()> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            view.content().delete(&request.get_ref().digest.parse()?).await
        })
        .await
    }

    async fn info(&self, request: Request<InfoRequest>) -> Answer<InfoResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let info = view.content().info(&request.get_ref().digest.parse()?).await?;
            Ok(InfoResponse { info: Some(info_to_wire(info)) })
        })
        .await
    }

    type ListStream = Messages<ListContentResponse>;

    async fn list(&self, request: Request<ListContentRequest>) -> Answer<Self::ListStream> {
        let listing = async {
            let content = view(&self.metadata, request.metadata())?.content();
            let filters = Filters::parse(&request.get_ref().filters)?;
            Ok(pages(
                PAGE_LEN,
                move |after: Option<Digest>| {
                    let (content, filters) = (content.clone(), filters.clone());
                    async move { content.list(&filters, after.as_ref(), PAGE_LEN).await }
                },
                |blob: &BlobInfo| blob.digest.clone(),
            ))
        };
        let pages = respond(listing).await?.into_inner();
        send_all(
            pages.map_ok(|page| ListContentResponse { info: page.into_iter().map(info_to_wire).collect() }),
        )
    }

    async fn list_statuses(&self, request: Request<ListStatusesRequest>) -> Answer<ListStatusesResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            let ingests = view.content().list_ingests(&filters).await?;
            Ok(ListStatusesResponse { statuses: ingests.into_iter().map(status_to_wire).collect() })
        })
        .await
    }

    type ReadStream = Messages<ReadContentResponse>;

    async fn read(&self, request: Request<ReadContentRequest>) -> Answer<Self::ReadStream> {
        let chunks = self.read_chunks(request.metadata(), request.get_ref());
        send_all(respond(chunks).await?.into_inner())
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let status = view.content().ingest_status(&request.get_ref().r#ref).await?;
            Ok(StatusResponse { status: Some(status_to_wire(status)) })
        })
        .await
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let UpdateRequest { info, update_mask: mask } = request.into_inner();
            let wanted = required(info, "info")?;
            let digest = wanted.digest.parse()?;
            let updated = view.content().update(&digest, &wanted.labels, &update_mask(mask)).await?;
            Ok(UpdateResponse { info: Some(info_to_wire(updated)) })
        })
        .await
    }

    type WriteStream = Messages<WriteContentResponse>;

    async fn write(&self, request: Request<Streaming<WriteContentRequest>>) -> Answer<Self::WriteStream> {
        let (metadata, _, requests) = request.into_parts();
        self.answer_writes(&metadata, Requests::Decoded(Box::new(requests))).await
    }
}

fn info_to_wire(info: BlobInfo) -> Info {
    Info {
        digest: info.digest.to_string(),
        size: length(info.size_bytes),
        created_at: Some(timestamp(info.created_at)),
        updated_at: Some(timestamp(info.updated_at)),
        labels: info.labels,
    }
}

/// The expected digest is never told (T06).
fn status_to_wire(status: IngestStatus) -> WireStatus {
    WireStatus {
        started_at: Some(timestamp(status.started_at)),
        updated_at: Some(timestamp(status.updated_at)),
        r#ref: status.key,
        offset: length(status.offset_bytes),
        total: length(status.total_bytes.unwrap_or(0)),
        expected: String::new(),
    }
}

fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A length or digest that a message may leave out: zero, negative and empty are nothing.
fn given_length(length: i64) -> Option<u64> {
    u64::try_from(length).ok().filter(|length| *length > 0)
}

fn given_digest(text: &str) -> Result<Option<Digest>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}
