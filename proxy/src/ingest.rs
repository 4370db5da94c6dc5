//! An open ingest in another process: a stream of requests, each with one answer (rows T09 to T17).

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use corten_api::{
    containerd::services::content::v1::{WriteAction, WriteContentRequest, WriteContentResponse},
    convert,
    grpc::from_status,
};
use corten_content_store::{BlobInfo, BlobReader, CommitOptions, Ingest, IngestOptions, IngestStatus};
use corten_types::{Digest, Error, Result};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    ContentProxy, MAX_MESSAGE_BYTES,
    content::{moment, signed, unsigned},
};

/// As much as goes into one message: half of the limit, as containerd's clients do.
const MAX_WRITE_BYTES: usize = MAX_MESSAGE_BYTES / 2;

/// How long a commit waits for the server to end the stream, and with it to give the key free.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) struct RemoteIngest {
    proxy: ContentProxy,
    stream: Option<Exchange>,
    status: IngestStatus,
    /// The server's word on the bytes so far.
    digest: Option<Digest>,
}

struct Exchange {
    requests: Sender<WriteContentRequest>,
    responses: Streaming<WriteContentResponse>,
}

impl RemoteIngest {
    pub(crate) async fn open(proxy: ContentProxy, key: &str, options: IngestOptions) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(1);
        let hello = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: key.to_owned(),
            total: signed(options.size_bytes.unwrap_or(0))?,
            expected: options.expected.as_ref().map(Digest::to_string).unwrap_or_default(),
            ..WriteContentRequest::default()
        };
        // The server may wait for the first message before it answers the call.
        requests.try_send(hello).map_err(|_| closed(key))?;
        let request = proxy.scope().request(ReceiverStream::new(receiver));
        let mut responses = proxy.client().write(request).await.map_err(from_status)?.into_inner();
        let Some(response) = responses.message().await.map_err(from_status)? else { return Err(closed(key)) };
        let now = SystemTime::now();
        let mut ingest = Self {
            proxy,
            stream: Some(Exchange { requests, responses }),
            status: IngestStatus {
                key: key.to_owned(),
                offset_bytes: 0,
                total_bytes: options.size_bytes,
                expected: options.expected,
                started_at: convert::system_time(response.started_at.as_ref()).unwrap_or(now),
                updated_at: convert::system_time(response.updated_at.as_ref()).unwrap_or(now),
            },
            digest: None,
        };
        if response.total > 0 {
            ingest.status.total_bytes = Some(unsigned(response.total, "total")?);
        }
        ingest.take(&response)?;
        Ok(ingest)
    }

    /// Sends a request and waits for its answer. Given up in between, nobody knows which answer comes next: the stream is over.
    async fn ask(&mut self, request: WriteContentRequest) -> Result<WriteContentResponse> {
        let key = &self.status.key;
        let Some(mut stream) = self.stream.take() else {
            return Err(Error::failed_precondition(format!("ingest {key} is over; open it again")));
        };
        // A server that hung up says why in its last answer.
        let _ = stream.requests.send(request).await;
        match stream.responses.message().await {
            Ok(Some(response)) => {
                self.stream = Some(stream);
                self.take(&response)?;
                Ok(response)
            }
            Ok(None) => Err(closed(key)),
            Err(status) => Err(from_status(status)),
        }
    }

    fn take(&mut self, response: &WriteContentResponse) -> Result<()> {
        self.status.offset_bytes = unsigned(response.offset, "offset")?;
        self.digest = (!response.digest.is_empty()).then(|| response.digest.parse()).transpose()?;
        if response.updated_at.is_some() {
            self.status.updated_at = self.status.updated_at.max(moment(response.updated_at));
        }
        Ok(())
    }

    async fn write_piece(&mut self, data: Bytes) -> Result<()> {
        let (offset_bytes, length) = (self.status.offset_bytes, data.len() as u64);
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: signed(offset_bytes)?,
            data,
            ..WriteContentRequest::default()
        };
        self.ask(request).await?;
        if self.status.offset_bytes != offset_bytes + length {
            let (key, reached) = (&self.status.key, self.status.offset_bytes);
            let message = format!("ingest {key} is at {reached} after {length} bytes at {offset_bytes}");
            self.stream = None;
            return Err(Error::internal(message));
        }
        Ok(())
    }

    /// Lets the server end the stream, so that the key is free when the commit returns.
    async fn say_goodbye(&mut self) {
        let Some(Exchange { requests, mut responses }) = self.stream.take() else { return };
        drop(requests);
        // The answer to the commit may come twice (row T17). Who does not end the stream in time is left.
        let end = async { while let Ok(Some(_)) = responses.message().await {} };
        let _ = tokio::time::timeout(GOODBYE, end).await;
    }
}

#[async_trait]
impl Ingest for RemoteIngest {
    fn status(&self) -> IngestStatus {
        self.status.clone()
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        if bytes.is_empty() && self.stream.is_some() {
            return Ok(());
        }
        loop {
            let piece = bytes.split_to(bytes.len().min(MAX_WRITE_BYTES));
            self.write_piece(piece).await?;
            self.status.updated_at = SystemTime::now();
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    async fn truncate(&mut self) -> Result<()> {
        // Offset zero throws away what is there (row T13).
        self.status.offset_bytes = 0;
        self.write_piece(Bytes::new()).await
    }

    async fn digest(&mut self) -> Result<Digest> {
        if self.digest.is_none() || self.stream.is_none() {
            self.ask(WriteContentRequest {
                action: WriteAction::Stat.into(),
                ..WriteContentRequest::default()
            })
            .await?;
        }
        let key = &self.status.key;
        self.digest
            .clone()
            .ok_or_else(|| Error::unimplemented(format!("the server tells no digest of ingest {key}")))
    }

    async fn commit(&mut self, options: CommitOptions) -> Result<BlobInfo> {
        let (key, offset_bytes) = (&self.status.key, self.status.offset_bytes);
        if let Some(wanted) = options.size_bytes
            && wanted != offset_bytes
        {
            // The protocol has no word for "exactly zero", so sizes are compared here.
            return Err(Error::failed_precondition(format!(
                "ingest {key} has {offset_bytes} bytes, expected {wanted}"
            )));
        }
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            total: signed(options.size_bytes.unwrap_or(0))?,
            expected: options.expected.as_ref().map(Digest::to_string).unwrap_or_default(),
            offset: signed(offset_bytes)?,
            labels: options.labels.clone(),
            ..WriteContentRequest::default()
        };
        self.ask(request).await?;
        self.say_goodbye().await;
        let digest = match (options.expected, self.digest.clone()) {
            (Some(expected), Some(actual)) if expected != actual => {
                let key = &self.status.key;
                return Err(Error::internal(format!(
                    "the server committed ingest {key} as {actual}, not {expected}"
                )));
            }
            (Some(expected), _) => expected,
            (None, Some(actual)) => actual,
            (None, None) => {
                return Err(Error::internal(format!(
                    "the server does not say as what it committed {}",
                    self.status.key
                )));
            }
        };
        let now = SystemTime::now();
        let committed = BlobInfo {
            digest,
            size_bytes: self.status.offset_bytes,
            created_at: now,
            updated_at: now,
            labels: options.labels,
        };
        // The times are the server's. The commit is done, whatever becomes of this question.
        Ok(self.proxy.info(&committed.digest).await.unwrap_or(committed))
    }
}

fn closed(key: &str) -> Error {
    Error::unavailable(format!("the server closed the stream of ingest {key}"))
}
