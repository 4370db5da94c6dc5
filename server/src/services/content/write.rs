//! The stream that writes a blob (rows T09-T17).

use std::pin::pin;

use bytes::Bytes;
use corten_api::{
    containerd::services::content::v1::{WriteAction, WriteContentRequest, WriteContentResponse},
    convert::timestamp,
    grpc::to_status,
};
use corten_content_store::{
    BlobReader, CommitOptions, ContentStore, Ingest, IngestCatalog, IngestOptions, Ingester,
};
use corten_types::{Digest, Error, ErrorKind, Result};
use futures::{
    future::{Either, select},
    stream,
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    given_digest, given_length, length,
    requests::{Requests, WriteMessage},
};
use crate::services::answer::Messages;

/// How many answers may wait for a client that does not read them.
const ANSWERS_WAITING: usize = 4;

/// The answers to `requests`, which come from a task of its own: it ends with the requests, and what it holds is let go then.
pub(super) fn answers<C>(content: C, requests: Requests) -> Messages<WriteContentResponse>
where
    C: ContentStore + 'static,
{
    let (sender, receiver) = mpsc::channel(ANSWERS_WAITING);
    tokio::spawn(async move {
        if let Err(status) = run(&content, requests, &sender).await {
            // Without a client nobody wants to know.
            let _ = sender.send(Err(status)).await;
        }
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        let answer = receiver.recv().await?;
        Some((answer, receiver))
    }))
}

type Answers = mpsc::Sender<std::result::Result<WriteContentResponse, Status>>;

async fn run<C: ContentStore>(
    content: &C,
    mut requests: Requests,
    answers: &Answers,
) -> std::result::Result<(), Status> {
    let Some(mut request) = requests.message().await? else {
        return Err(Status::invalid_argument("a write without a message: invalid argument"));
    };
    let mut writer = Writer::open(content, &request.head).await.map_err(to_status)?;
    requests.announce_to(writer.ingest.announcer());
    loop {
        let commits = request.head.action() == WriteAction::Commit;
        // The next message is taken from the connection while this one is hashed and written.
        let (answer, early) = {
            let step = pin!(writer.step(content, request));
            let receive = pin!(requests.message());
            match select(step, receive).await {
                Either::Left((answer, _)) => (answer, None),
                Either::Right((next, step)) => (step.await, Some(next)),
            }
        };
        if answers.send(Ok(answer.map_err(to_status)?)).await.is_err() {
            return Ok(());
        }
        if commits {
            break;
        }
        let next = match early {
            Some(next) => next?,
            None => requests.message().await?,
        };
        match next {
            Some(next) => request = next,
            None => break,
        }
    }
    // The last answer comes twice, after a commit and when the client stops without one (T17). The lock on the ref goes first: a
    // client that opens the ref again after the end of the stream must find it free.
    let last = writer.answer;
    drop(writer.ingest);
    let _ = answers.send(Ok(last)).await;
    Ok(())
}

/// A writer between two messages.
struct Writer {
    ingest: Box<dyn Ingest>,
    key: String,
    /// What the stream last said that the blob will be.
    total_bytes: Option<u64>,
    expected: Option<Digest>,
    /// Answers are made by changing the last one: what a message does not set stays (T14).
    answer: WriteContentResponse,
    /// Whether a message was handled: the expectation of the first was checked by opening.
    began: bool,
}

impl Writer {
    /// Opens the ref of the first message, and takes its lock (T09).
    async fn open<C: Ingester>(content: &C, first: &WriteContentRequest) -> Result<Self> {
        if first.r#ref.is_empty() {
            return Err(Error::invalid_argument("first message must have a reference"));
        }
        let (total_bytes, expected) = (given_length(first.total), given_digest(&first.expected)?);
        let options = IngestOptions { size_bytes: total_bytes, expected: expected.clone() };
        let ingest = content.ingest(&first.r#ref, options).await?;
        let answer = WriteContentResponse::default();
        Ok(Self { ingest, key: first.r#ref.clone(), total_bytes, expected, answer, began: false })
    }

    /// Handles one message.
    async fn step<C>(&mut self, content: &C, message: WriteMessage) -> Result<WriteContentResponse>
    where
        C: BlobReader + IngestCatalog,
    {
        let WriteMessage { head: request, data } = message;
        let action = request.action();
        let status = self.ingest.status();
        self.answer.action = action.into();
        self.answer.offset = length(status.offset_bytes);
        self.note_expectations(content, &request, action).await?;
        match action {
            WriteAction::Stat => {
                self.answer.digest = self.ingest.digest().await?.to_string();
                self.answer.started_at = Some(timestamp(status.started_at));
                self.answer.updated_at = Some(timestamp(status.updated_at));
                self.answer.total = length(self.total_bytes.unwrap_or(0));
            }
            WriteAction::Write => {
                self.write(request.offset, data, status.offset_bytes).await?;
                self.answer.digest = self.ingest.digest().await?.to_string();
            }
            WriteAction::Commit => {
                self.write(request.offset, data, status.offset_bytes).await?;
                let options = CommitOptions {
                    size_bytes: self.total_bytes,
                    expected: self.expected.clone(),
                    labels: request.labels,
                };
                self.answer.digest = self.ingest.commit(options).await?.digest.to_string();
            }
        }
        self.began = true;
        Ok(self.answer.clone())
    }

    /// Takes over what the message says of the blob. One that exists by now ends the write (T15); in a commit the store says so
    /// itself, and leases the blob (T16).
    async fn note_expectations<C>(
        &mut self,
        content: &C,
        request: &WriteContentRequest,
        action: WriteAction,
    ) -> Result<()>
    where
        C: BlobReader + IngestCatalog,
    {
        if let Some(total_bytes) = given_length(request.total) {
            self.total_bytes = Some(total_bytes);
        }
        let Some(expected) = given_digest(&request.expected)? else { return Ok(()) };
        self.expected = Some(expected.clone());
        if !self.began || action == WriteAction::Commit {
            return Ok(());
        }
        match content.info(&expected).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                content.abort(&self.key).await?;
                Err(Error::already_exists(format!("blob with expected digest {expected} exists")))
            }
        }
    }

    /// Writes the data of a message, where its offset allows (T13).
    async fn write(&mut self, wanted: i64, data: Vec<Bytes>, offset_bytes: u64) -> Result<()> {
        match u64::try_from(wanted) {
            Ok(0) if offset_bytes > 0 => {
                self.ingest.truncate().await?;
                self.answer.offset = 0;
            }
            Ok(wanted) if wanted > 0 && wanted != offset_bytes => {
                return Err(Error::out_of_range(format!(
                    "write @{wanted} must occur at current offset {offset_bytes}"
                )));
            }
            // A negative offset is none at all.
            Ok(_) | Err(_) => {}
        }
        let data_bytes = data.iter().map(|piece| piece.len() as u64).sum();
        if data_bytes > 0 {
            self.ingest.write_pieces(data).await?;
            self.answer.offset += length(data_bytes);
        }
        Ok(())
    }
}
