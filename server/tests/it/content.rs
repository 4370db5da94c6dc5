//! Blobs: writing them step by step, reading and listing them.

use corten_api::containerd::services::content::v1::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, ListContentRequest, ListStatusesRequest,
    ReadContentRequest, StatusRequest, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
    content_client::ContentClient,
};
use corten_content_store::Hasher;
use corten_types::{Algorithm, Labels};
use prost_types::FieldMask;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::support::{PATIENCE, Server, in_namespace, request};

pub(crate) type Client = ContentClient<Channel>;

/// A write, as a client sees it.
pub(crate) struct Writing {
    requests: Option<mpsc::Sender<WriteContentRequest>>,
    answers: Streaming<WriteContentResponse>,
}

impl Writing {
    pub(crate) async fn begin(client: &mut Client) -> Self {
        Self::begin_with(client, request).await.unwrap()
    }

    async fn begin_with(
        client: &mut Client,
        wrap: impl FnOnce(ReceiverStream<WriteContentRequest>) -> Request<ReceiverStream<WriteContentRequest>>,
    ) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let answers = client.write(wrap(ReceiverStream::new(receiver))).await?.into_inner();
        Ok(Self { requests: Some(sender), answers })
    }

    pub(crate) async fn send(
        &mut self,
        request: WriteContentRequest,
    ) -> Result<WriteContentResponse, Status> {
        self.requests.as_ref().unwrap().send(request).await.unwrap();
        self.next().await.map(|answer| answer.expect("an answer for each message"))
    }

    async fn next(&mut self) -> Result<Option<WriteContentResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer or the end")
    }

    async fn half_close(&mut self) {
        self.requests = None;
    }
}

pub(crate) fn message(action: WriteAction, reference: &str, offset: i64, data: &[u8]) -> WriteContentRequest {
    WriteContentRequest {
        action: action.into(),
        r#ref: reference.into(),
        offset,
        data: data.to_vec().into(),
        ..Default::default()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Hasher::digest_of(Algorithm::Sha256, bytes).to_string()
}

async fn store(client: &mut Client, reference: &str, bytes: &[u8]) -> String {
    let mut writing = Writing::begin(client).await;
    let commit = WriteContentRequest {
        total: i64::try_from(bytes.len()).unwrap(),
        expected: digest(bytes),
        ..message(WriteAction::Commit, reference, 0, bytes)
    };
    writing.send(commit).await.unwrap().digest
}

pub(crate) async fn client(server: &Server) -> Client {
    ContentClient::new(server.channel().await).max_encoding_message_size(usize::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_written_in_the_steps_of_a_go_client() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut writing = Writing::begin(&mut client).await;
    let open = WriteContentRequest { total: 11, ..message(WriteAction::Stat, "r", 0, b"") };
    let stat = writing.send(open).await.unwrap();
    assert_eq!((stat.action(), stat.offset, stat.total), (WriteAction::Stat, 0, 11));
    assert!(stat.started_at.is_some() && stat.updated_at.is_some());

    let first = writing.send(message(WriteAction::Write, "r", 0, b"hello ")).await.unwrap();
    assert_eq!((first.action(), first.offset), (WriteAction::Write, 6));
    assert_eq!(first.digest, digest(b"hello "), "the digest so far");
    assert_eq!((first.started_at, first.total), (stat.started_at, 11), "what a message does not set stays");
    let second = writing.send(message(WriteAction::Write, "r", 6, b"world")).await.unwrap();
    assert_eq!(second.offset, 11);

    let wanted = digest(b"hello world");
    let labels = Labels::from([("a".into(), "b".into())]);
    let commit = WriteContentRequest {
        total: 11,
        expected: wanted.clone(),
        labels: labels.clone(),
        ..message(WriteAction::Commit, "", 11, b"")
    };
    let committed = writing.send(commit).await.unwrap();
    assert_eq!((committed.action(), committed.digest.as_str()), (WriteAction::Commit, wanted.as_str()));
    assert_eq!(writing.next().await.unwrap(), Some(committed), "it comes twice");
    assert_eq!(writing.next().await.unwrap(), None);

    let info = client
        .info(request(InfoRequest { digest: wanted.clone() }))
        .await
        .unwrap()
        .into_inner()
        .info
        .unwrap();
    assert_eq!((info.digest, info.size, info.labels), (wanted, 11, labels));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_in_one_message_are_a_blob() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let bytes: Vec<u8> = (0..10u32 << 18).flat_map(u32::to_le_bytes).collect();
    assert_eq!(store(&mut client, "large", &bytes).await, digest(&bytes));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_must_be_the_end_or_zero_which_starts_anew() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut writing = Writing::begin(&mut client).await;
    writing.send(message(WriteAction::Write, "r", 0, b"0123456789")).await.unwrap();
    assert_eq!(writing.send(message(WriteAction::Write, "r", 0, b"abc")).await.unwrap().offset, 3);
    assert_eq!(
        writing.send(message(WriteAction::Stat, "r", 0, b"")).await.unwrap().offset,
        3,
        "looking changes nothing"
    );
    assert_eq!(writing.send(message(WriteAction::Write, "r", 3, b"d")).await.unwrap().offset, 4);
    let status = writing.send(message(WriteAction::Write, "r", 3, b"x")).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);

    // What was written is still there, and a commit at offset 0 throws it away too.
    let mut writing = Writing::begin(&mut client).await;
    assert_eq!(writing.send(message(WriteAction::Stat, "r", 0, b"")).await.unwrap().offset, 4);
    let committed = writing.send(message(WriteAction::Commit, "r", 0, b"all")).await.unwrap();
    assert_eq!((committed.offset, committed.digest), (3, digest(b"all")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_does_not_fit_fails_and_keeps_the_bytes() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    for (total, expected) in [(4, String::new()), (0, digest(b"other"))] {
        let mut writing = Writing::begin(&mut client).await;
        writing.send(message(WriteAction::Write, "r", 0, b"abc")).await.unwrap();
        let commit = WriteContentRequest { total, expected, ..message(WriteAction::Commit, "r", 3, b"") };
        assert_eq!(writing.send(commit).await.unwrap_err().code(), Code::FailedPrecondition);
        let status = client
            .status(request(StatusRequest { r#ref: "r".into() }))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        assert_eq!((status.offset, status.expected.as_str()), (3, ""));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_must_name_a_ref() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut writing = Writing::begin(&mut client).await;
    let status = writing.send(message(WriteAction::Stat, "", 0, b"")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut silent = Writing::begin(&mut client).await;
    silent.half_close().await;
    assert!(silent.next().await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_holds_a_ref_until_it_ends() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut first = Writing::begin(&mut client).await;
    let last = first.send(message(WriteAction::Write, "r", 0, b"abc")).await.unwrap();
    let mut second = Writing::begin(&mut client).await;
    let status = second.send(message(WriteAction::Stat, "r", 0, b"")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let elsewhere = Writing::begin_with(&mut client, |stream| in_namespace("elsewhere", stream)).await;
    elsewhere
        .unwrap()
        .send(message(WriteAction::Stat, "r", 0, b""))
        .await
        .expect("refs of namespaces are apart");

    first.half_close().await;
    assert_eq!(first.next().await.unwrap(), Some(last), "the last answer comes again");
    assert_eq!(first.next().await.unwrap(), None);
    let mut third = Writing::begin(&mut client).await;
    assert_eq!(third.send(message(WriteAction::Stat, "r", 0, b"")).await.unwrap().offset, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_lets_go_of_the_ref() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut first = Writing::begin(&mut client).await;
    first.send(message(WriteAction::Write, "r", 0, b"abc")).await.unwrap();
    drop(first);
    let resumed = async {
        loop {
            let mut again = Writing::begin(&mut client).await;
            match again.send(message(WriteAction::Stat, "r", 0, b"")).await {
                Ok(stat) => return stat.offset,
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, resumed).await.expect("the ref becomes free"), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_exists_already_ends_the_write() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let known = store(&mut client, "first", b"known").await;
    let stat = WriteContentRequest { expected: known.clone(), ..message(WriteAction::Stat, "again", 0, b"") };
    let status = Writing::begin(&mut client).await.send(stat).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);

    // The same, told later: the write is given up.
    let mut writing = Writing::begin(&mut client).await;
    writing.send(message(WriteAction::Write, "later", 0, b"kno")).await.unwrap();
    let tell = WriteContentRequest { expected: known, ..message(WriteAction::Write, "later", 3, b"wn") };
    assert_eq!(writing.send(tell).await.unwrap_err().code(), Code::AlreadyExists);
    let status = client.status(request(StatusRequest { r#ref: "later".into() })).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_come_in_chunks_whose_offsets_count_from_where_they_began() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let bytes: Vec<u8> = (0..5u32 << 17).flat_map(u32::to_le_bytes).collect();
    let known = store(&mut client, "r", &bytes).await;
    let size = i64::try_from(bytes.len()).unwrap();
    let mib = 1 << 20;
    for (offset, length, wanted) in [
        (0, 0, 0..bytes.len()),
        (-5, -1, 0..bytes.len()),
        (10, 0, 10..bytes.len()),
        (10, 5, 10..15),
        (size - 3, size, bytes.len() - 3..bytes.len()),
        (7, mib + 1, 7..7 + (1 << 20) + 1),
        (size, 0, bytes.len()..bytes.len()),
    ] {
        let read = ReadContentRequest { digest: known.clone(), offset, size: length };
        let mut answers = client.read(request(read)).await.unwrap().into_inner();
        let mut got = Vec::new();
        while let Some(chunk) = answers.message().await.unwrap() {
            assert_eq!(usize::try_from(chunk.offset).unwrap(), got.len());
            assert!(!chunk.data.is_empty() && chunk.data.len() <= 1 << 20);
            got.extend_from_slice(&chunk.data);
        }
        assert!(got == bytes[wanted], "offset {offset}, size {length}");
    }
    let past = ReadContentRequest { digest: known, offset: size + 1, size: 0 };
    let status = match client.read(request(past)).await {
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::OutOfRange);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_a_hundred_at_a_time() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut none = client.list(request(ListContentRequest::default())).await.unwrap().into_inner();
    assert_eq!(none.message().await.unwrap(), None, "no message at all");
    let mut wanted = Vec::new();
    for number in 0..101u32 {
        wanted.push(store(&mut client, &format!("r{number}"), &number.to_le_bytes()).await);
    }
    wanted.sort();
    let mut answers = client.list(request(ListContentRequest::default())).await.unwrap().into_inner();
    let (mut lengths, mut listed) = (Vec::new(), Vec::new());
    while let Some(page) = answers.message().await.unwrap() {
        lengths.push(page.info.len());
        listed.extend(page.info.into_iter().map(|info| info.digest));
    }
    assert_eq!((lengths, listed), (vec![100, 1], wanted.clone()));
    let one = ListContentRequest { filters: vec![format!("digest=={}", wanted[7])] };
    let mut answers = client.list(request(one)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().info.len(), 1);
    let bad = client.list(request(ListContentRequest { filters: vec!["==".into()] })).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_and_ingests_are_changed_and_given_up() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let known = store(&mut client, "r", b"abc").await;
    let labels = Labels::from([("x".into(), "y".into())]);
    let update = |paths: &[&str]| UpdateRequest {
        info: Some(Info { digest: known.clone(), labels: labels.clone(), ..Default::default() }),
        update_mask: Some(FieldMask { paths: paths.iter().map(|&path| path.into()).collect() }),
    };
    let info = client.update(request(update(&[]))).await.unwrap().into_inner().info.unwrap();
    assert_eq!(info.labels, labels);
    let status = client.update(request(update(&["size"]))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let malformed = client.info(request(InfoRequest { digest: "sha256:1".into() })).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    let elsewhere = client.info(in_namespace("elsewhere", InfoRequest { digest: known.clone() })).await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::NotFound);
    let delete = DeleteContentRequest { digest: known };
    client.delete(request(delete.clone())).await.unwrap();
    assert_eq!(client.delete(request(delete)).await.unwrap_err().code(), Code::NotFound);

    let mut writing = Writing::begin(&mut client).await;
    writing.send(message(WriteAction::Write, "open", 0, b"abc")).await.unwrap();
    let listed =
        client.list_statuses(request(ListStatusesRequest::default())).await.unwrap().into_inner().statuses;
    assert_eq!(
        listed.iter().map(|status| (status.r#ref.as_str(), status.offset)).collect::<Vec<_>>(),
        [("open", 3)]
    );
    let abort = AbortRequest { r#ref: "open".into() };
    client.abort(request(abort.clone())).await.unwrap();
    assert_eq!(client.abort(request(abort)).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_does_not_exist_is_an_error_for_writers_alone() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let known = store(&mut client, "r", b"abc").await;
    let mut leased = request(InfoRequest { digest: known });
    leased.metadata_mut().insert("containerd-lease", "no-such".parse().unwrap());
    client.info(leased).await.expect("a reader does not care");
    let writing = Writing::begin_with(&mut client, |stream| {
        let mut leased = request(stream);
        leased.metadata_mut().insert("containerd-lease", "no-such".parse().unwrap());
        leased
    });
    let status = writing.await.unwrap().send(message(WriteAction::Write, "l", 0, b"x")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    server.stop().await;
}
