//! Calls and handlers over a ttrpc connection on a unix socket.

use std::{sync::Arc, time::Duration};

use ::ttrpc::asynchronous::{Client, Server};
use bytes::Bytes;
use corten_api::{
    containerd::task::v3::{ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse},
    status,
    ttrpc::{CallContext, MAX_MESSAGE_BYTES, call, method, service, waiting_method},
};
use corten_types::{Error, ErrorKind, Result};
use tokio::sync::{Notify, Semaphore};

const TASK: &str = "containerd.task.v3.Task";

struct Setup {
    server: Server,
    client: Client,
    /// How many `Create` handlers ran to their end.
    created: Arc<Semaphore>,
    /// Lets one `Create` handler go on.
    gate: Arc<Semaphore>,
    /// Told when the waiting handler is dropped.
    dropped: Arc<Notify>,
    _folder: tempfile::TempDir,
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix://{}", folder.path().join("s").display());
    let (created, gate, dropped) =
        (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let connect = method(|context: corten_api::ttrpc::RequestContext, request: ConnectRequest| async move {
        if let Some((kind, _)) = status::TABLE.iter().find(|(kind, _)| kind.suffix() == request.id) {
            return Err(Error::new(*kind, "connect"));
        }
        if let Some(length) = request.id.strip_prefix("length ") {
            return Ok(ConnectResponse {
                version: "x".repeat(length.parse().unwrap()),
                ..Default::default()
            });
        }
        assert_ne!(request.id, "panic", "as asked");
        Ok(ConnectResponse {
            shim_pid: u32::try_from(context.timeout.unwrap_or_default().as_secs()).unwrap(),
            version: context.namespace.unwrap_or_default(),
            ..Default::default()
        })
    });
    let (handler_created, handler_gate) = (created.clone(), gate.clone());
    let create = method(move |_, request: CreateTaskRequest| {
        let (created, gate) = (handler_created.clone(), handler_gate.clone());
        async move {
            gate.acquire().await.unwrap().forget();
            created.add_permits(1);
            Ok(CreateTaskResponse { pid: u32::try_from(request.bundle.len()).unwrap() })
        }
    });
    let handler_dropped = dropped.clone();
    let wait = waiting_method(move |_, _: ConnectRequest| {
        let guard = NotifyOnDrop(handler_dropped.clone());
        async move {
            let _guard = guard;
            std::future::pending::<Result<ConnectResponse>>().await
        }
    });
    let methods = service(TASK, [("Connect", connect), ("Create", create), ("Wait", wait)]);
    let mut server = Server::new().bind(&address).unwrap().register_service(methods);
    server.start().await.unwrap();
    let client = Client::connect(&address).await.unwrap();
    Setup { server, client, created, gate, dropped, _folder: folder }
}

async fn connect(client: &Client, context: &CallContext, id: &str) -> Result<ConnectResponse> {
    call(client, TASK, "Connect", context, &ConnectRequest { id: id.into() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_carries_message_namespace_and_timeout() {
    let setup = setup().await;
    let context = CallContext::new("k8s.io").with_timeout(Duration::from_secs(60));
    let answer = connect(&setup.client, &context, "c1").await.unwrap();
    assert_eq!((answer.version.as_str(), answer.shim_pid), ("k8s.io", 60));
    let answer = connect(&setup.client, &CallContext::new("default"), "c1").await.unwrap();
    assert_eq!(answer.shim_pid, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_error_comes_back() {
    let setup = setup().await;
    for (kind, _) in status::TABLE {
        let error = connect(&setup.client, &CallContext::new("n"), kind.suffix()).await.unwrap_err();
        let wanted = status::message(&Error::new(kind, "connect"));
        assert_eq!((error.kind(), error.message()), (kind, wanted.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_handler_is_an_internal_error_of_that_call_alone() {
    let setup = setup().await;
    let context = CallContext::new("n");
    assert_eq!(connect(&setup.client, &context, "panic").await.unwrap_err().kind(), ErrorKind::Internal);
    connect(&setup.client, &context, "c1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_unimplemented_in_a_known_service() {
    let setup = setup().await;
    let request = ConnectRequest::default();
    let context = CallContext::new("n");
    let error = call::<_, ConnectResponse>(&setup.client, TASK, "Fly", &context, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_deadline_exceeded_and_the_work_is_finished() {
    let setup = setup().await;
    let context = CallContext::new("n").with_timeout(Duration::from_millis(20));
    let error = create(&setup.client, &context, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    setup.gate.add_permits(1);
    setup.created.acquire().await.unwrap().forget();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_no_work_half_done_but_ends_the_waiting() {
    let setup = setup().await;
    let context = CallContext::new("n");
    let client = setup.client.clone();
    let calls = tokio::spawn(async move {
        let wait = ConnectRequest::default();
        tokio::join!(
            call::<_, ConnectResponse>(&client, TASK, "Wait", &context, &wait),
            create(&client, &context, 1),
            create(&client, &context, 1),
        )
    });
    // One of the two is let through, so both requests are known to have arrived before the connection goes.
    setup.gate.add_permits(1);
    setup.created.acquire().await.unwrap().forget();
    let mut server = setup.server;
    // It closes at once, and then waits for handlers longer than a test should.
    tokio::spawn(async move { server.disconnect().await });
    let (waited, first, second) = calls.await.unwrap();
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Unavailable);
    let failed = [first, second].into_iter().filter_map(Result::err).map(|error| error.kind());
    assert!(failed.into_iter().all(|kind| kind == ErrorKind::Unavailable));
    setup.dropped.notified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_the_connection_whole() {
    let setup = setup().await;
    let context = CallContext::new("n");
    for _ in 0..4 {
        let mut large = Box::pin(create(&setup.client, &context, 3 << 20));
        tokio::select! {
            biased;
            _ = &mut large => unreachable!("the gate is closed"),
            () = tokio::task::yield_now() => {}
        }
        drop(large);
    }
    connect(&setup.client, &context, "c1").await.unwrap();
    setup.gate.add_permits(4);
    setup.created.acquire_many(4).await.unwrap().forget();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_limited_both_ways() {
    let setup = setup().await;
    let context = CallContext::new("n");
    // Tag and length of the one field take five bytes.
    let fits = MAX_MESSAGE_BYTES - 5;
    setup.gate.add_permits(1);
    assert_eq!(create(&setup.client, &context, fits).await.unwrap().pid as usize, fits);
    let error = create(&setup.client, &context, fits + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);

    let answer = connect(&setup.client, &context, &format!("length {fits}")).await.unwrap();
    assert_eq!(answer.version.len(), fits);
    let error = connect(&setup.client, &context, &format!("length {}", fits + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_went_away_is_unavailable() {
    let setup = setup().await;
    let context = CallContext::new("n");
    let mut server = setup.server;
    tokio::spawn(async move { server.shutdown().await });
    let request = ConnectRequest::default();
    let waited = call::<_, ConnectResponse>(&setup.client, TASK, "Wait", &context, &request).await;
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(connect(&setup.client, &context, "c1").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_an_invalid_argument() {
    let setup = setup().await;
    // Field 1 of the request is a string; these bytes are no UTF-8.
    let rubbish = corten_api::containerd::types::transfer::Data { data: Bytes::from_static(b"\xff") };
    let context = CallContext::new("n");
    let error =
        call::<_, ConnectResponse>(&setup.client, TASK, "Connect", &context, &rubbish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

async fn create(client: &Client, context: &CallContext, bundle_len: usize) -> Result<CreateTaskResponse> {
    let request = CreateTaskRequest { bundle: "b".repeat(bundle_len), ..Default::default() };
    call(client, TASK, "Create", context, &request).await
}
