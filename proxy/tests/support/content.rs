//! The content service.

use std::sync::Arc;

use bytes::Bytes;
use corten_api::{
    containerd::services::content::v1::{
        AbortRequest, DeleteContentRequest, Info, InfoRequest, InfoResponse, ListContentRequest,
        ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest,
        ReadContentResponse, Status as WireStatus, StatusRequest, StatusResponse, UpdateRequest,
        UpdateResponse, WriteAction, WriteContentRequest, WriteContentResponse,
        content_server::{self, ContentServer},
    },
    convert::{timestamp, update_mask},
    grpc::to_status,
};
use corten_content_store::{BlobInfo, CommitOptions, ContentStore, Ingest, IngestOptions, IngestStatus};
use corten_filter::Filters;
use corten_proxy::MAX_MESSAGE_BYTES;
use corten_types::{Digest, Error, ErrorKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = ReceiverStream<Result<T, Status>>;

pub(crate) struct Content {
    store: Arc<dyn ContentStore>,
}

/// The content service over `store`.
pub(crate) fn service(store: Arc<dyn ContentStore>) -> ContentServer<Content> {
    ContentServer::new(Content { store })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(to_status)
}

fn given_digest(text: &str) -> Result<Option<Digest>, Status> {
    if text.is_empty() { Ok(None) } else { digest(text).map(Some) }
}

fn wire_info(info: BlobInfo) -> Info {
    Info {
        digest: info.digest.to_string(),
        size: info.size_bytes as i64,
        created_at: Some(timestamp(info.created_at)),
        updated_at: Some(timestamp(info.updated_at)),
        labels: info.labels,
    }
}

fn wire_status(status: IngestStatus) -> WireStatus {
    WireStatus {
        r#ref: status.key,
        offset: status.offset_bytes as i64,
        total: status.total_bytes.unwrap_or(0) as i64,
        expected: String::new(),
        started_at: Some(timestamp(status.started_at)),
        updated_at: Some(timestamp(status.updated_at)),
    }
}

#[tonic::async_trait]
impl content_server::Content for Content {
    async fn info(&self, request: Request<InfoRequest>) -> Answer<InfoResponse> {
        let info = self.store.info(&digest(&request.get_ref().digest)?).await.map_err(to_status)?;
        Ok(Response::new(InfoResponse { info: Some(wire_info(info)) }))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        let UpdateRequest { info, update_mask: mask } = request.into_inner();
        let info = info.unwrap_or_default();
        let updated = self.store.update(&digest(&info.digest)?, &info.labels, &update_mask(mask)).await;
        Ok(Response::new(UpdateResponse { info: Some(wire_info(updated.map_err(to_status)?)) }))
    }

    type ListStream = Messages<ListContentResponse>;

    async fn list(&self, request: Request<ListContentRequest>) -> Answer<Self::ListStream> {
        let filters = Filters::parse(&request.get_ref().filters).map_err(to_status)?;
        let infos = self.store.list(&filters, None, usize::MAX).await.map_err(to_status)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            // Small messages, so that clients meet several.
            for infos in infos.chunks(2) {
                let info = infos.iter().cloned().map(wire_info).collect();
                if sender.send(Ok(ListContentResponse { info })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn delete(&self, request: Request<DeleteContentRequest>) -> Answer<()> {
        self.store.delete(&digest(&request.get_ref().digest)?).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    type ReadStream = Messages<ReadContentResponse>;

    async fn read(&self, request: Request<ReadContentRequest>) -> Answer<Self::ReadStream> {
        let ReadContentRequest { digest: text, offset, size } = request.into_inner();
        let blob = self.store.open(&digest(&text)?).await.map_err(to_status)?;
        if offset as u64 > blob.size_bytes() {
            return Err(to_status(Error::out_of_range(format!("blob {text} ends before {offset}"))));
        }
        let end = if size <= 0 { blob.size_bytes() } else { blob.size_bytes().min((offset + size) as u64) };
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut position = offset as u64;
            while position < end {
                let length = (end - position).min(100_000) as usize;
                let data = blob.read_at(position, length).await.map_err(to_status);
                let message =
                    data.map(|data| ReadContentResponse { offset: (position as i64) - offset, data });
                if sender.send(message).await.is_err() {
                    return;
                }
                position += length as u64;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let status = self.store.ingest_status(&request.get_ref().r#ref).await.map_err(to_status)?;
        Ok(Response::new(StatusResponse { status: Some(wire_status(status)) }))
    }

    async fn list_statuses(&self, request: Request<ListStatusesRequest>) -> Answer<ListStatusesResponse> {
        let filters = Filters::parse(&request.get_ref().filters).map_err(to_status)?;
        let statuses = self.store.list_ingests(&filters).await.map_err(to_status)?;
        let statuses = statuses.into_iter().map(wire_status).collect();
        Ok(Response::new(ListStatusesResponse { statuses }))
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Answer<()> {
        self.store.abort(&request.get_ref().r#ref).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    type WriteStream = Messages<WriteContentResponse>;

    async fn write(&self, request: Request<Streaming<WriteContentRequest>>) -> Answer<Self::WriteStream> {
        let (store, mut requests) = (Arc::clone(&self.store), request.into_inner());
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(status) = write(store.as_ref(), &mut requests, &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Rows T09 to T17.
async fn write(
    store: &dyn ContentStore,
    requests: &mut Streaming<WriteContentRequest>,
    answers: &mpsc::Sender<Result<WriteContentResponse, Status>>,
) -> Result<(), Status> {
    let Some(mut request) = requests.message().await? else { return Ok(()) };
    let size_bytes = u64::try_from(request.total).ok().filter(|total| *total > 0);
    let options = IngestOptions { size_bytes, expected: given_digest(&request.expected)? };
    let mut ingest = store.ingest(&request.r#ref, options).await.map_err(to_status)?;
    let mut answer = WriteContentResponse::default();
    loop {
        let action = request.action();
        answer.action = action.into();
        if action == WriteAction::Stat {
            let status = ingest.status();
            answer.started_at = Some(timestamp(status.started_at));
            answer.updated_at = Some(timestamp(status.updated_at));
            answer.total = status.total_bytes.unwrap_or(0) as i64;
        } else {
            put(ingest.as_mut(), request.offset, std::mem::take(&mut request.data)).await?;
        }
        answer.offset = ingest.status().offset_bytes as i64;
        answer.digest = if action == WriteAction::Commit {
            let size_bytes = u64::try_from(request.total).ok().filter(|total| *total > 0);
            let expected = given_digest(&request.expected)?;
            let options = CommitOptions { size_bytes, expected, labels: request.labels };
            ingest.commit(options).await.map_err(to_status)?.digest.to_string()
        } else {
            ingest.digest().await.map_err(to_status)?.to_string()
        };
        if answers.send(Ok(answer.clone())).await.is_err() {
            return Ok(());
        }
        if action == WriteAction::Commit {
            break;
        }
        match requests.message().await? {
            Some(next) => request = next,
            None => break,
        }
    }
    drop(ingest);
    let _ = answers.send(Ok(answer)).await;
    Ok(())
}

/// Row T13.
async fn put(ingest: &mut dyn Ingest, offset: i64, data: Bytes) -> Result<(), Status> {
    let position = ingest.status().offset_bytes;
    if offset == 0 && position > 0 {
        ingest.truncate().await.map_err(to_status)?;
    } else if offset as u64 != position {
        return Err(to_status(Error::new(
            ErrorKind::OutOfRange,
            format!("the offset is {position}, not {offset}"),
        )));
    }
    if !data.is_empty() {
        ingest.write(data).await.map_err(to_status)?;
    }
    Ok(())
}
