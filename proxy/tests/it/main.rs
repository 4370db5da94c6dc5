//! What the suites of the contracts do not see: connections, headers, limits and faulty servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
#[path = "../support/content.rs"]
mod content_service;
mod diff;
#[path = "../support/diff.rs"]
mod diff_service;
mod faulty;
mod headers;
#[path = "../support/server.rs"]
mod server;
mod snapshots;
#[path = "../support/snapshots.rs"]
mod snapshots_service;
mod writes;

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use corten_content_store::LocalStore;
use corten_disk::Disk;
use corten_proxy::{Connection, ContentProxy};
use server::scope;
use tokio::task::JoinHandle;
use tonic::body::Body;

/// The namespace and the lease of each request, as the server saw them.
type Headers = Arc<Mutex<Vec<(Option<String>, Option<String>)>>>;

/// A server that ends with this value.
struct TestServer {
    socket: PathBuf,
    headers: Headers,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Serves `service` on a socket in `folder`.
    fn serve<S>(folder: &Path, service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let headers = Headers::default();
        let seen = Arc::clone(&headers);
        let recording = tower::service_fn(move |request: http::Request<Body>| {
            let header = |name| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
            seen.lock().unwrap().push((header("containerd-namespace"), header("containerd-lease")));
            tower::Service::call(&mut service.clone(), request)
        });
        let (socket, task) = server::serve(folder, recording);
        Self { socket, headers, task }
    }

    fn connection(&self) -> Connection {
        Connection::unix(&self.socket)
    }

    /// Stops taking connections and waits for that; those that are there live on.
    async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        std::fs::remove_file(&self.socket).unwrap();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server of a new store in `folder`, and a proxy to it.
fn content(folder: &Path) -> (TestServer, ContentProxy) {
    let store = LocalStore::open(&folder.join("store"), Disk::new()).unwrap();
    let server = TestServer::serve(folder, content_service::service(Arc::new(store)));
    let proxy = ContentProxy::new(&server.connection(), scope());
    (server, proxy)
}
