//! gRPC over unix sockets.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as _;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, server::NamedService};
use tower::Service;

use super::{
    bulk::{AfterBulk, Bulk},
    limits::{LimitedRequest, LimitedResponse},
};
use crate::authority::AuthorityFilter;

/// How much of one message stream may be on its way, in bytes.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// How much of a connection's streams together may be on its way, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How much of an answer waits in memory for a client that reads slowly, in bytes per stream.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// The largest frame that clients may send: fewer frames are less work. Those in Go send 16 KiB whatever is allowed.
const FRAME_BYTES: u32 = 256 << 10;

/// How much of the answers on a connection the system keeps until the client takes it, if it allows so much. Otherwise each side
/// waits for the other every few frames.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

/// How large the headers of a request may be, in bytes, decoded.
const HEADER_LIST_BYTES: u32 = 128 << 10;

/// How many requests may be taken back before they were looked at: clients cancel many calls at once.
const CANCELLED_AT_ONCE: usize = 4096;

/// How long to wait before another try when the system has no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client of a service that is not here has to write its first message, before it is refused anyway.
const FIRST_MESSAGE_WAIT: Duration = Duration::from_secs(5);

/// The body of requests and answers.
pub type GrpcBody = tonic::body::Body;

type Handler = Arc<dyn Fn(Request<GrpcBody>) -> BoxFuture<'static, Response<GrpcBody>> + Send + Sync>;

/// Collects services.
#[derive(Default)]
pub struct GrpcBuilder {
    services: HashMap<&'static str, Handler>,
    after_bulk: Option<AfterBulk>,
}

impl GrpcBuilder {
    /// Adds a service, which takes the place of one with the same name.
    ///
    /// The limits on messages are enforced around every service (X02); a service's own must be out of the way.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<GrpcBody>, Response = Response<GrpcBody>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| {
            let answer = service.clone().call(request);
            Box::pin(async move { answer.await.unwrap_or_else(|never| match never {}) })
        });
        self.services.insert(S::NAME, handler);
        self
    }

    /// Has `hook` called after each request that moved or took much ([`BULK_BYTES`](super::BULK_BYTES),
    /// [`BULK_TIME`](super::BULK_TIME)): a time to give memory back. It must not block.
    #[must_use]
    pub fn after_bulk(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.after_bulk = Some(Arc::new(hook));
        self
    }

    /// What serves them.
    #[must_use]
    pub fn build(self) -> Grpc {
        Grpc { services: Arc::new(self.services), after_bulk: self.after_bulk }
    }
}

/// Serves gRPC: HTTP/2 with prior knowledge, any number of streams at once, never a GOAWAY for being idle (X19, X20).
#[derive(Clone)]
pub struct Grpc {
    services: Arc<HashMap<&'static str, Handler>>,
    after_bulk: Option<AfterBulk>,
}

impl Grpc {
    /// Begins to collect services.
    #[must_use]
    pub fn builder() -> GrpcBuilder {
        GrpcBuilder::default()
    }

    /// The full names of the services, sorted.
    #[must_use]
    pub fn service_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.services.keys().copied().collect();
        names.sort_unstable();
        names
    }

    /// Serves until `shutdown`; then takes no more connections and requests, and gives those that run `drain` to end before
    /// it cuts them off. When it returns, no handler runs.
    pub async fn serve(
        self,
        listener: UnixListener,
        shutdown: impl Future<Output = ()> + Send,
        drain: Duration,
    ) {
        self.serve_until(listener, Box::pin(shutdown), drain).await;
    }

    /// Not generic, so that the whole of HTTP/2 is compiled with this crate, once.
    async fn serve_until(self, listener: UnixListener, mut shutdown: BoxFuture<'_, ()>, drain: Duration) {
        let tracker = TaskTracker::new();
        let stopping = CancellationToken::new();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // A matter of speed only.
                        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET_BUFFER_BYTES);
                        let connection =
                            self.clone().serve_connection(stream, stopping.clone(), tracker.clone());
                        connections.spawn(connection);
                    }
                    Err(failure) => {
                        tracing::warn!(error = %failure, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        stopping.cancel();
        let drained = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::info!(connections = connections.len(), "closing connections whose requests did not end");
            connections.shutdown().await;
        }
        tracker.close();
        tracker.wait().await;
    }

    /// Serves one connection until the client closes it, or until `stopping` is cancelled and its requests have ended.
    async fn serve_connection(self, stream: UnixStream, stopping: CancellationToken, tracker: TaskTracker) {
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = self.handle(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = http2::Builder::new(Tracked(tracker));
        builder
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(None)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_pending_accept_reset_streams(CANCELLED_AT_ONCE);
        let io = TokioIo::new(AuthorityFilter::new(stream));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(failure) = ended {
            tracing::debug!(error = %failure, "a connection broke");
        }
    }

    fn handle(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<GrpcBody>> {
        let name = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let Some(handler) = self.services.get(name) else {
            let reason = format!("unknown service {name}");
            return Box::pin(refuse(request.into_body(), reason));
        };
        let bulk = self.after_bulk.as_ref().map(Bulk::begin);
        let answers_bulk = bulk.clone();
        let answer = handler(request.map(|body| GrpcBody::new(LimitedRequest::new(body, bulk))));
        Box::pin(
            async move { answer.await.map(|body| GrpcBody::new(LimitedResponse::new(body, answers_bulk))) },
        )
    }
}

/// Says that there is no such service, once the client has written its first message or ended its stream.
///
/// A Go client that opens a stream and gets the answer before it wrote sees a bare end of file instead of the status. `ctr` 2
/// opens such a stream to find out whether the daemon transfers images.
async fn refuse(mut body: Incoming, reason: String) -> Response<GrpcBody> {
    let first = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
    // Whether it wrote, ended, broke off or did nothing: the answer is the same.
    drop(tokio::time::timeout(FIRST_MESSAGE_WAIT, first).await);
    Status::unimplemented(reason).into_http()
}

impl fmt::Debug for Grpc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Grpc").field("services", &self.service_names()).finish()
    }
}

impl fmt::Debug for GrpcBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GrpcBuilder").field("services", &self.services.len()).finish()
    }
}

/// Runs the handlers of requests, and knows when all have ended.
#[derive(Clone, Debug)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let future: Pin<Box<F>> = Box::pin(future);
        self.0.spawn(future);
    }
}
