use super::*;
use corten_api::containerd::task::v3 as wire;
use futures::{FutureExt, future::join_all};
use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
use tokio::net::UnixListener;

const LIMIT: Duration = Duration::from_secs(60);

fn listen() -> (tempfile::TempDir, UnixListener, Bootstrap) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let bootstrap = Bootstrap::plain(&format!("unix://{}", path.display()));
    (folder, listener, bootstrap)
}

fn request() -> wire::StateRequest {
    wire::StateRequest { id: "web".into(), exec_id: String::new() }
}

#[tokio::test]
async fn the_second_socket_of_a_dead_shim_goes_and_that_of_a_living_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix://{}/s", folder.path().display());
    let key = Key::new(&"default".parse().unwrap(), "web");
    let second = debug_address(&address, "/run/containerd/containerd.sock", &key).unwrap();
    // As `printf /run/containerd/containerd.sock/default/web/debug | sha256sum` says.
    let name = "508f1bec053288500f7995e6148fc7d9740419dede81f4f1019d1ffc49abd2bb";
    assert_eq!(second, format!("unix://{}/{name}", folder.path().display()));
    let path = folder.path().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    remove_dead_socket(&second).await;
    assert!(path.exists(), "somebody listens");
    drop(listener);
    remove_dead_socket(&second).await;
    assert!(!path.exists(), "nobody listens");
}

#[tokio::test]
async fn an_address_has_one_connection_while_somebody_uses_it() {
    let (_folder, listener, bootstrap) = listen();
    let connections = Connections::default();
    let first = connections.open(&bootstrap, Shim::Running, LIMIT).await.unwrap();
    let second = connections.open(&bootstrap, Shim::Running, LIMIT).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let (mut peer, _) = listener.accept().await.unwrap();
    drop((first, second));
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut peer, &mut rest).await.unwrap();
    assert!(rest.is_empty(), "the last user closed it");
}

#[tokio::test]
async fn the_other_sides_end_is_noticed_and_fails_what_waits() {
    let (_folder, listener, bootstrap) = listen();
    let connection = Connections::default().open(&bootstrap, Shim::Running, LIMIT).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    let namespace = "default".parse().unwrap();
    let call = connection.call::<_, wire::StateResponse>(&namespace, "State", request());
    tokio::pin!(call);
    assert!(call.as_mut().now_or_never().is_none());
    assert!(!connection.is_closed());
    drop(peer);
    connection.closed().await;
    assert!(connection.is_closed());
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Unavailable);
    let late = connection.call::<_, wire::StateResponse>(&namespace, "State", request()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn calls_that_are_given_up_leave_the_connection_whole() {
    let (_folder, listener, bootstrap) = listen();
    let connection = Connections::default().open(&bootstrap, Shim::Running, LIMIT).await.unwrap();
    let (_peer, _) = listener.accept().await.unwrap();
    let namespace = "default".parse().unwrap();
    let limit = Duration::from_millis(20);
    let late = connection
        .call_within::<_, wire::StateResponse>(&namespace, "State", request(), limit)
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    assert!(!connection.is_closed(), "a shim that is only slow is not dead");
    assert_eq!(connection.calls.available_permits(), MAX_CALLS_IN_FLIGHT - 1, "the call goes on");
}

#[tokio::test]
async fn one_call_past_the_limit_is_refused_and_none_at_it() {
    let (_folder, listener, bootstrap) = listen();
    let connection = Connections::default().open(&bootstrap, Shim::Running, LIMIT).await.unwrap();
    let (_peer, _) = listener.accept().await.unwrap();
    let namespace = "default".parse().unwrap();
    let call = || connection.call::<_, wire::StateResponse>(&namespace, "State", request());
    let mut pending: Vec<_> = (0..MAX_CALLS_IN_FLIGHT).map(|_| Box::pin(call())).collect();
    for call in &mut pending {
        assert!(call.as_mut().now_or_never().is_none());
    }
    assert_eq!(call().await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
    connection.close();
    for outcome in join_all(pending).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_shim_that_should_run_is_dead_at_once_and_one_that_starts_is_waited_for() {
    let (folder, listener, bootstrap) = listen();
    drop(listener);
    let connections = Connections::default();
    let dead = connections.open(&bootstrap, Shim::Running, LIMIT).await.err().unwrap();
    assert_eq!(dead.kind(), ErrorKind::Unavailable);
    remove_dead_socket(&bootstrap.address).await;
    assert!(!folder.path().join("s").exists());
    let opening = connections.open(&bootstrap, Shim::Starting, LIMIT);
    tokio::pin!(opening);
    assert!(opening.as_mut().now_or_never().is_none());
    let _listener = UnixListener::bind(folder.path().join("s")).unwrap();
    opening.await.unwrap();
    remove_dead_socket(&bootstrap.address).await;
    assert!(folder.path().join("s").exists(), "a live socket is never removed");
}

#[tokio::test]
async fn abstract_sockets_have_no_scheme_and_other_schemes_are_refused() {
    let name = format!("corten-tasks-{}", std::process::id());
    let address = <SocketAddr as SocketAddrExt>::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let connections = Connections::default();
    connections.open(&Bootstrap::plain(&name), Shim::Running, LIMIT).await.unwrap();
    let refused =
        connections.open(&Bootstrap::plain("vsock://3:1"), Shim::Starting, LIMIT).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unimplemented);
    assert!(refused.chain().contains("only Unix sockets"), "{refused:?}");
}
