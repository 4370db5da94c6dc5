//! Serving a service on a socket.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
};

use corten_proxy::Scope;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{net::UnixListener, task::JoinHandle};
use tonic::body::Body;

/// Serves `service` on a socket in `folder` until the task is aborted or the runtime ends.
pub(crate) fn serve<S>(folder: &Path, service: S) -> (PathBuf, JoinHandle<()>)
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let socket = folder.join("grpc.sock");
    let listener = UnixListener::bind(&socket).expect("the test can make a socket");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            // Boxes the body, which is what tonic's services take.
            let service = tower::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let mut service = service.clone();
                let request = request.map(Body::new);
                async move { tower::Service::call(&mut service, request).await }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            tokio::spawn(connection);
        }
    });
    (socket, task)
}

/// The namespace of tests.
pub(crate) fn scope() -> Scope {
    Scope::new(&"test".parse().expect("a well-formed namespace"))
}
