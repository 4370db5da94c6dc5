//! A client that sends and reads single messages.

use std::{path::PathBuf, time::Duration};

use corten_api::containerd::services::{
    content::v1::{
        Info, InfoRequest, ReadContentRequest, StatusRequest, WriteAction, WriteContentRequest,
        WriteContentResponse, content_client::ContentClient,
    },
    events::v1::events_client::EventsClient,
    leases::v1::{CreateRequest, ListResourcesRequest, leases_client::LeasesClient},
};
use corten_content_store::Hasher;
use corten_types::Algorithm;
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::subject::Server;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection and a namespace that no other test has. Everything that it makes is leased.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    pub(super) namespace: String,
    lease: Option<String>,
    /// The durable folder of the daemon.
    pub(super) root: PathBuf,
}

impl Client {
    pub(super) fn enter(server: &Server) -> Self {
        let (connection, namespace) = server.connect();
        Self { channel: connection.channel(), namespace, lease: None, root: server.root() }
    }

    /// The same in another namespace.
    pub(super) fn elsewhere(&self) -> Self {
        Self { namespace: format!("{}-elsewhere", self.namespace), ..self.clone() }
    }

    /// The same under a new lease.
    pub(super) async fn leased(&self, id: &str) -> Self {
        let create = CreateRequest { id: id.to_owned(), ..CreateRequest::default() };
        LeasesClient::new(self.channel.clone()).create(self.request(create)).await.unwrap();
        Self { lease: Some(id.to_owned()), ..self.clone() }
    }

    /// What the client's lease holds.
    pub(super) async fn leased_ids(&self) -> Vec<String> {
        let id = self.lease.clone().unwrap();
        let list = ListResourcesRequest { id };
        let answer = LeasesClient::new(self.channel.clone()).list_resources(self.request(list)).await;
        answer.unwrap().into_inner().resources.into_iter().map(|resource| resource.id).collect()
    }

    pub(super) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(16 << 20)
    }

    pub(super) fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone())
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse().unwrap());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.parse().unwrap());
        }
        request
    }

    pub(super) async fn info(&self, digest: &str) -> Result<Info, Status> {
        let request = self.request(InfoRequest { digest: digest.to_owned() });
        self.content().info(request).await.map(|answer| answer.into_inner().info.unwrap())
    }

    /// The offset of an ingest.
    pub(super) async fn offset(&self, reference: &str) -> Result<i64, Status> {
        let request = self.request(StatusRequest { r#ref: reference.to_owned() });
        self.content().status(request).await.map(|answer| answer.into_inner().status.unwrap().offset)
    }

    /// What a read answers, message by message: offset and bytes.
    pub(super) async fn read(
        &self,
        digest: &str,
        offset: i64,
        size: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, Status> {
        let request = self.request(ReadContentRequest { digest: digest.to_owned(), offset, size });
        let mut answers = self.content().read(request).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = answers.message().await? {
            messages.push((message.offset, message.data.to_vec()));
        }
        Ok(messages)
    }

    /// Stores a blob in one message.
    pub(super) async fn put(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let commit = WriteContentRequest {
            expected: digest.clone(),
            ..message(WriteAction::Commit, &format!("put-{digest}"), 0, bytes)
        };
        let (_stream, answer) = Writing::begin(self, commit).await.unwrap();
        assert_eq!(answer.digest, digest);
        digest
    }
}

/// A write, as a client sees it.
pub(super) struct Writing {
    requests: Option<mpsc::Sender<WriteContentRequest>>,
    answers: Streaming<WriteContentResponse>,
}

impl Writing {
    /// Opens a stream with its first message. containerd answers nothing at all before that.
    pub(super) async fn begin(
        client: &Client,
        first: WriteContentRequest,
    ) -> Result<(Self, WriteContentResponse), Status> {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(first).await.unwrap();
        let stream = tokio_stream(receiver);
        let answers = within(client.content().write(client.request(stream))).await?.into_inner();
        let mut writing = Self { requests: Some(sender), answers };
        let answer = writing.next().await?.expect("an answer to the first message");
        Ok((writing, answer))
    }

    /// The same, and again while another stream that was just ended holds the ref.
    pub(super) async fn begin_when_free(
        client: &Client,
        first: WriteContentRequest,
    ) -> (Self, WriteContentResponse) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match Self::begin(client, first.clone()).await {
                Ok(begun) => return begun,
                Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
            }
            assert!(tokio::time::Instant::now() < deadline, "the ref stays locked");
        }
    }

    pub(super) async fn send(
        &mut self,
        request: WriteContentRequest,
    ) -> Result<WriteContentResponse, Status> {
        let requests = self.requests.as_ref().unwrap();
        // A stream that has ended takes nothing more, and says why.
        let _ = requests.send(request).await;
        self.next().await.map(|answer| answer.expect("an answer for each message"))
    }

    pub(super) async fn next(&mut self) -> Result<Option<WriteContentResponse>, Status> {
        within(self.answers.message()).await
    }

    pub(super) fn half_close(&mut self) {
        self.requests = None;
    }

    /// Ends the stream, and waits until the server has, too.
    pub(super) async fn end(mut self) {
        self.half_close();
        while let Ok(Some(_)) = self.next().await {}
    }
}

fn tokio_stream<T>(mut receiver: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("an answer or the end")
}

pub(super) fn message(action: WriteAction, reference: &str, offset: i64, data: &[u8]) -> WriteContentRequest {
    WriteContentRequest {
        action: action.into(),
        r#ref: reference.into(),
        offset,
        data: data.to_vec().into(),
        ..WriteContentRequest::default()
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Hasher::digest_of(Algorithm::Sha256, bytes).to_string()
}
