//! The ttrpc socket, to which shims send their events (row X14).

use std::{future::Future, io, time::Duration};

use corten_api::{
    containerd::services::events::ttrpc::v1::ForwardRequest,
    ttrpc::{from_error, method, service},
};
use corten_types::Result;
use futures::stream;
use tokio::net::{UnixListener, UnixStream};
use ttrpc::asynchronous::{Server, transport::Listener};

use crate::services::events::Forwarder;

/// The full name of the service.
const EVENTS: &str = "containerd.services.events.ttrpc.v1.Events";

/// How long to wait before another try when the system has no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Hands the events of shims to `forwarder` until `shutdown`; then lets those that run end, for up to `drain`.
///
/// Only processes with the user and group of this one are served: others are cut off (X14).
///
/// # Errors
/// What the ttrpc library said when it could not start.
pub async fn serve_events(
    listener: UnixListener,
    forwarder: Forwarder,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> Result<()> {
    let forward = method(move |_, request: ForwardRequest| {
        let forwarder = forwarder.clone();
        async move { forwarder.forward(request.envelope) }
    });
    let connections = stream::unfold(listener, |listener| async move {
        loop {
            match accept(&listener).await {
                Ok(stream) => return Some((Ok(stream), listener)),
                Err(failure) if failure.kind() == io::ErrorKind::PermissionDenied => {
                    tracing::warn!("refused {failure}");
                }
                Err(failure) => {
                    tracing::warn!(error = %failure, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    let mut server = Server::new()
        .add_listener(Listener::new::<UnixStream>(connections))
        .register_service(service(EVENTS, [("Forward", forward)]));
    server.start().await.map_err(|failure| from_error("serve events", failure))?;
    shutdown.await;
    let drained = async {
        server.stop_listen().await;
        server.disconnect().await;
    };
    // What did not end in time is cut off when the server is dropped.
    let _ = tokio::time::timeout(drain, drained).await;
    Ok(())
}

async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    let (stream, _) = listener.accept().await?;
    let peer = stream.peer_cred()?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if (peer.uid(), peer.gid()) != own {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "a shim of user {} and group {}: it must run as {} and {}",
                peer.uid(),
                peer.gid(),
                own.0,
                own.1
            ),
        ));
    }
    Ok(stream)
}
