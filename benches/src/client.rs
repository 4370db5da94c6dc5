//! The client: the same for both daemons, and as long-lived as they are.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, ensure};
use bytes::Bytes;
use corten_api::containerd::{
    services::{
        content::v1::{
            ReadContentRequest, WriteAction, WriteContentRequest, WriteContentResponse,
            content_client::ContentClient,
        },
        introspection::v1::{PluginInfoRequest, introspection_client::IntrospectionClient},
        leases::v1::{CreateRequest, leases_client::LeasesClient},
    },
    types::Descriptor,
};
use corten_proxy::{Connection, MAX_MESSAGE_BYTES};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, transport::Channel};

/// How much of a blob goes into one message.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Each piece waits for the answer to the one before, as containerd's own clients do it.
    Lockstep,
    /// As fast as the server takes them.
    Streamed,
}

/// A blob to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Blob {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: digest_of(&bytes), bytes, labels: BTreeMap::new() }
    }

    pub(crate) fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: self.digest.clone(),
            size: self.bytes.len() as i64,
            ..Descriptor::default()
        }
    }

    pub(crate) fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// sha256 with its name.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A connection of its own, in the namespace of the benchmarks.
#[derive(Clone)]
pub(crate) struct Client {
    connection: Connection,
    lease: Option<String>,
}

impl Client {
    /// For the daemon at `socket`; inside the runtime only.
    pub(crate) fn open(socket: &Path) -> Self {
        Self { connection: Connection::unix(socket), lease: None }
    }

    /// Makes a lease. The same connection, and what it makes is held by that lease.
    pub(crate) async fn leasing(&self, lease: &str) -> anyhow::Result<Self> {
        let message = CreateRequest { id: lease.to_owned(), ..CreateRequest::default() };
        LeasesClient::new(self.channel()).create(self.request(message)).await?;
        Ok(Self { connection: self.connection.clone(), lease: Some(lease.to_owned()) })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.connection.channel()
    }

    /// A request in the namespace, under the lease if there is one.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let namespace = "bench".parse().expect("a word is a header");
        request.metadata_mut().insert("containerd-namespace", namespace);
        if let Some(lease) = self.lease.as_ref().and_then(|lease| lease.parse().ok()) {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        request
    }

    fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// What Corten's database counted since the daemon began; nothing for a daemon that does not tell.
    pub(crate) async fn statistics(&self) -> Option<serde_json::Value> {
        let message = PluginInfoRequest {
            r#type: "io.containerd.metadata.v1".to_owned(),
            id: "bolt".to_owned(),
            // Only who gives options is told more than the plugin's name (row N05).
            options: Some(prost_types::Any::default()),
        };
        let mut service = IntrospectionClient::new(self.channel());
        let response = service.plugin_info(self.request(message)).await.ok()?.into_inner();
        serde_json::from_slice(&response.extra?.value).ok()
    }

    /// Sends and commits a blob.
    pub(crate) async fn upload(&self, blob: &Blob, sending: Sending) -> anyhow::Result<()> {
        let depth = if sending == Sending::Lockstep { 1 } else { 4 };
        let (requests, receiver) = mpsc::channel(depth);
        let total = blob.bytes.len() as i64;
        let key = format!("bench-{}", blob.digest);
        let hello = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: key,
            total,
            expected: blob.digest.clone(),
            ..WriteContentRequest::default()
        };
        requests.send(hello).await?;
        let request = self.request(ReceiverStream::new(receiver));
        let mut responses = self.content().write(request).await?.into_inner();
        next(&mut responses).await?;
        let pieces = pieces(blob);
        let last = match sending {
            Sending::Lockstep => {
                let mut last = None;
                for piece in pieces {
                    requests.send(piece).await?;
                    last = Some(next(&mut responses).await?);
                }
                last
            }
            Sending::Streamed => {
                let sender = tokio::spawn(async move {
                    for piece in pieces {
                        if requests.send(piece).await.is_err() {
                            break;
                        }
                    }
                });
                let mut last = None;
                while let Some(response) = responses.message().await? {
                    last = Some(response);
                }
                sender.await?;
                last
            }
        };
        let last = last.context("the server said nothing of the commit")?;
        ensure!(last.offset == total && last.digest == blob.digest, "{} was not committed", blob.digest);
        Ok(())
    }

    /// Reads a whole blob and returns its length.
    pub(crate) async fn read(&self, digest: &str) -> anyhow::Result<u64> {
        let request = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::default() };
        let mut responses = self.content().read(self.request(request)).await?.into_inner();
        let mut length = 0;
        while let Some(response) = responses.message().await? {
            length += response.data.len() as u64;
        }
        Ok(length)
    }
}

/// The messages of a blob after the first: its pieces, then the commit.
fn pieces(blob: &Blob) -> Vec<WriteContentRequest> {
    let total = blob.bytes.len();
    let mut requests: Vec<_> = (0..total)
        .step_by(PIECE_BYTES)
        .map(|offset| WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: offset as i64,
            data: blob.bytes.slice(offset..total.min(offset + PIECE_BYTES)),
            ..WriteContentRequest::default()
        })
        .collect();
    requests.push(WriteContentRequest {
        action: WriteAction::Commit.into(),
        total: total as i64,
        offset: total as i64,
        expected: blob.digest.clone(),
        labels: blob.labels.clone(),
        ..WriteContentRequest::default()
    });
    requests
}

async fn next(responses: &mut Streaming<WriteContentResponse>) -> anyhow::Result<WriteContentResponse> {
    responses.message().await?.context("the server ended the stream")
}
