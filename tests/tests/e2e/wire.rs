//! The daemon's services as a client in Rust sees them.

use corten_proxy::Connection;
use corten_tests::Daemon;
use tonic::Request;

/// The daemon's services, in its namespace.
pub(crate) struct Client {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) connection: Connection,
    pub(crate) namespace: String,
}

impl Client {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connection = {
            let _inside = runtime.enter();
            Connection::unix(&daemon.address())
        };
        Self { runtime, connection, namespace: daemon.namespace().to_owned() }
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse().unwrap());
        request
    }

    pub(crate) fn leased<T>(&self, lease: &str, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.metadata_mut().insert("containerd-lease", lease.parse().unwrap());
        request
    }
}
