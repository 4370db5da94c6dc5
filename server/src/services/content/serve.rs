//! The service on the wire: as tonic generates it, but for the calls that move many bytes.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use corten_api::{
    containerd::services::content::v1::{
        WriteContentRequest, WriteContentResponse, content_server::ContentServer,
    },
    grpc::to_status,
};
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use tonic::{
    Status, Streaming,
    metadata::MetadataMap,
    server::{NamedService, StreamingService},
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::{
    ContentService, read,
    requests::{self, Requests},
};
use crate::{
    services::{answer::Messages, serve},
    transport::GrpcBody,
};

const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";

/// Says how the messages of a call are compressed.
const ENCODING: &str = "grpc-encoding";

/// [`ContentService`] as a gRPC service.
///
/// Calls of `Read` and `Write` do not pass the generated code, so that their data is not copied between the connection and the
/// store.
#[derive(Clone, Debug)]
pub struct ContentGrpc {
    service: ContentService,
    generated: ContentServer<ContentService>,
}

impl ContentGrpc {
    pub(super) fn new(service: ContentService) -> Self {
        Self { generated: serve!(ContentServer, service.clone()), service }
    }
}

impl NamedService for ContentGrpc {
    const NAME: &'static str = <ContentServer<ContentService> as NamedService>::NAME;
}

impl Service<Request<GrpcBody>> for ContentGrpc {
    type Response = Response<GrpcBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<GrpcBody>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<GrpcBody>) -> Self::Future {
        match request.uri().path() {
            // tonic refuses what is compressed.
            READ if !request.headers().contains_key(ENCODING) => {
                let service = self.service.clone();
                Box::pin(async move { Ok(read(&service, request).await.unwrap_or_else(Status::into_http)) })
            }
            WRITE => Box::pin(write(self.service.clone(), request).map(Ok)),
            _ => self.generated.call(request),
        }
    }
}

async fn read(service: &ContentService, request: Request<GrpcBody>) -> Result<Response<GrpcBody>, Status> {
    let (head, body) = request.into_parts();
    let message = requests::only(body).await?;
    let chunks = service.read_chunks(&MetadataMap::from_headers(head.headers), &message).await;
    Ok(read::response(Box::pin(chunks.map_err(to_status)?)))
}

async fn write(service: ContentService, request: Request<GrpcBody>) -> Response<GrpcBody> {
    let (head, body) = request.into_parts();
    let write = Write { service, requests: Some(Requests::raw(body)) };
    // tonic looks at the headers and encodes the answers; of the messages it sees none.
    let request = Request::from_parts(head, GrpcBody::empty());
    tonic::server::Grpc::new(ProstCodec::default()).streaming(write, request).await
}

/// One call of `Write`.
struct Write {
    service: ContentService,
    requests: Option<Requests>,
}

impl StreamingService<WriteContentRequest> for Write {
    type Response = WriteContentResponse;
    type ResponseStream = Messages<WriteContentResponse>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<WriteContentRequest>>) -> Self::Future {
        let (service, (metadata, _, nothing)) = (self.service.clone(), request.into_parts());
        let requests = self.requests.take().unwrap_or_else(|| Requests::Decoded(Box::new(nothing)));
        Box::pin(async move { service.answer_writes(&metadata, requests).await })
    }
}
