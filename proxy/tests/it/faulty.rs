//! Servers that do not keep to the protocol.

use std::pin::Pin;

use corten_api::containerd::services::content::v1::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, InfoResponse, ListContentRequest,
    ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest, ReadContentResponse,
    StatusRequest, StatusResponse, UpdateRequest, UpdateResponse, WriteContentRequest, WriteContentResponse,
    content_server::{Content, ContentServer},
};
use corten_content_store::{BlobReader, Hasher, IngestCatalog, IngestOptions, Ingester};
use corten_filter::Filters;
use corten_proxy::ContentProxy;
use corten_types::{Algorithm, Digest, ErrorKind};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{TestServer, scope};

/// Answers every question with what it was made of.
struct Faulty {
    info: Option<Info>,
    pieces: Vec<&'static str>,
    answers: Vec<WriteContentResponse>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn messages<T: Send + 'static>(values: Vec<T>) -> Messages<T> {
    Box::pin(tokio_stream::iter(values.into_iter().map(Ok)))
}

#[tonic::async_trait]
impl Content for Faulty {
    async fn info(&self, _request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { info: self.info.clone() }))
    }

    async fn update(&self, _request: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type ListStream = Messages<ListContentResponse>;

    async fn list(
        &self,
        _request: Request<ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let info = self.info.iter().cloned().collect();
        Ok(Response::new(messages(vec![ListContentResponse { info }])))
    }

    async fn delete(&self, _request: Request<DeleteContentRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type ReadStream = Messages<ReadContentResponse>;

    async fn read(
        &self,
        _request: Request<ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let piece = |piece: &&'static str| ReadContentResponse { offset: 0, data: (*piece).into() };
        Ok(Response::new(messages(self.pieces.iter().map(piece).collect())))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse { status: None }))
    }

    async fn list_statuses(
        &self,
        _request: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        Err(Status::unknown("no"))
    }

    async fn abort(&self, _request: Request<AbortRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    type WriteStream = Messages<WriteContentResponse>;

    async fn write(
        &self,
        _request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        Ok(Response::new(messages(self.answers.clone())))
    }
}

struct Setup {
    proxy: ContentProxy,
    _server: TestServer,
    _folder: tempfile::TempDir,
}

fn setup(info: Option<Info>, pieces: &[&'static str], answers: &[WriteContentResponse]) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Faulty { info, pieces: pieces.to_vec(), answers: answers.to_vec() };
    let server = TestServer::serve(folder.path(), ContentServer::new(faulty));
    let proxy = ContentProxy::new(&server.connection(), scope());
    Setup { proxy, _server: server, _folder: folder }
}

fn digest() -> Digest {
    Hasher::digest_of(Algorithm::Sha256, b"content")
}

fn info(digest: &str, size: i64) -> Option<Info> {
    Some(Info { digest: digest.to_owned(), size, ..Info::default() })
}

#[tokio::test]
async fn answers_without_sense_are_errors() {
    for (answer, kind) in [
        (None, ErrorKind::Internal),
        (info("sha256:short", 1), ErrorKind::InvalidArgument),
        (info(digest().as_str(), -1), ErrorKind::Internal),
    ] {
        let is_there = answer.is_some();
        let setup = setup(answer, &[], &[]);
        assert_eq!(setup.proxy.info(&digest()).await.unwrap_err().kind(), kind);
        assert_eq!(setup.proxy.list(&Filters::all(), None, 1).await.is_err(), is_there);
        assert_eq!(setup.proxy.ingest_status("k").await.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(setup.proxy.list_ingests(&Filters::all()).await.unwrap_err().kind(), ErrorKind::Unknown);
    }
}

#[tokio::test]
async fn a_read_that_is_too_short_or_too_long_is_an_error() {
    for (pieces, kind) in [
        (["con", "te"], Some(ErrorKind::DataLoss)),
        (["con", "tent"], None),
        (["content", ""], None),
        (["content", "s"], Some(ErrorKind::Internal)),
    ] {
        let setup = setup(info(digest().as_str(), 7), &pieces, &[]);
        let blob = setup.proxy.open(&digest()).await.unwrap();
        let read = blob.read_at(0, 100).await;
        assert_eq!(read.as_ref().err().map(corten_types::Error::kind), kind, "{pieces:?}");
        assert!(read.is_err() || read.unwrap() == "content");
    }
}

#[tokio::test]
async fn a_write_stream_that_ends_or_goes_astray_is_an_error() {
    let setup_silent = setup(None, &[], &[]);
    let refused = setup_silent.proxy.ingest("k", IngestOptions::default()).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);

    let hello = WriteContentResponse::default();
    let setup_short = setup(None, &[], std::slice::from_ref(&hello));
    let mut ingest = setup_short.proxy.ingest("k", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.write("abc".into()).await.unwrap_err().kind(), ErrorKind::Unavailable);

    let astray = WriteContentResponse { offset: 2, ..WriteContentResponse::default() };
    let setup_astray = setup(None, &[], &[hello.clone(), astray]);
    let mut ingest = setup_astray.proxy.ingest("k", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.write("abc".into()).await.unwrap_err().kind(), ErrorKind::Internal);
    assert!(ingest.write("abc".into()).await.unwrap_err().message().contains("open it again"));

    let nonsense = WriteContentResponse { digest: "md5:1".to_owned(), offset: -1, ..hello };
    let setup_nonsense = setup(None, &[], &[nonsense]);
    assert!(setup_nonsense.proxy.ingest("k", IngestOptions::default()).await.is_err());
}
