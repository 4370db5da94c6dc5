//! Our messages over ttrpc: calls on the client's side, method handlers on the server's.
//!
//! The crate `ttrpc` frames and dispatches; messages stay prost's. Errors travel as statuses of [`crate::status`].

use std::{
    collections::HashMap,
    future::Future,
    marker::PhantomData,
    time::{Duration, Instant},
};

use ::ttrpc::{
    asynchronous::{Client, MethodHandler, Service, TtrpcContext},
    proto::{KeyValue, MESSAGE_LENGTH_MAX, Request, Response, Status},
};
use async_trait::async_trait;
use bytes::Bytes;
use corten_types::{Error, ErrorKind, Result};
use prost::Message;

use crate::status;

/// The metadata key of the namespace over ttrpc (row X04).
pub const NAMESPACE_HEADER: &str = "containerd-namespace-ttrpc";

/// The key that gRPC uses; it is sent beside the other, and looked for first.
pub const GRPC_NAMESPACE_HEADER: &str = "containerd-namespace";

/// What a request or a response may take around its payload: names, metadata, lengths.
const ENVELOPE_BYTES: usize = 4096;

/// The largest encoded message that [`call`] and [`method`] carry: ttrpc's frame limit less its envelope.
pub const MAX_MESSAGE_BYTES: usize = MESSAGE_LENGTH_MAX - ENVELOPE_BYTES;

/// What goes with a call beside its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallContext {
    /// The namespace that the call acts in.
    pub namespace: String,
    /// How long to wait for the answer; for ever if `None`. The server is told.
    pub timeout: Option<Duration>,
}

impl CallContext {
    /// A call in `namespace` that waits for ever.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), timeout: None }
    }

    /// The same with a limit on the waiting.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// What came with a call beside its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The namespace that the caller named, unchecked.
    pub namespace: Option<String>,
    /// How long the caller waits.
    pub timeout: Option<Duration>,
}

/// Calls `method` of `service` (a full name such as `containerd.task.v3.Task`) and waits for the answer.
///
/// The call runs in a task of its own: dropping this future leaves the connection whole (the `ttrpc` crate closes it when
/// a request is dropped while its frame is written). The request is then answered to nobody, and its task ends with the
/// answer, the timeout or the connection.
///
/// # Errors
/// The class and message that the server sent, or:
/// - [`ErrorKind::ResourceExhausted`]: the request is larger than [`MAX_MESSAGE_BYTES`]. Nothing was sent.
/// - [`ErrorKind::DeadlineExceeded`]: no answer in time. The server may have done the work.
/// - [`ErrorKind::Unavailable`]: the connection is closed or broke. The server may have done the work.
/// - [`ErrorKind::Internal`]: the answer is not a message of this type.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn call<Req, Resp>(
    client: &Client,
    service: &str,
    method: &str,
    context: &CallContext,
    request: &Req,
) -> Result<Resp>
where
    Req: Message,
    Resp: Message + Default,
{
    let what = format!("{service}/{method}");
    let payload = request.encode_to_vec();
    if payload.len() > MAX_MESSAGE_BYTES {
        return Err(Error::resource_exhausted(too_large(&what, "request", payload.len())));
    }
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        timeout_nano: timeout_nanos(context.timeout),
        metadata: vec![
            header(NAMESPACE_HEADER, &context.namespace),
            header(GRPC_NAMESPACE_HEADER, &context.namespace),
        ],
        payload,
        ..Default::default()
    };
    let deadline = context.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let client = client.clone();
    let answer = tokio::spawn(async move { client.request(request).await })
        .await
        .map_err(|failure| Error::internal(format!("call {what}")).with_source(failure))?;
    let response = answer.map_err(|failure| {
        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        from_call_error(&what, failure, late)
    })?;
    Resp::decode(Bytes::from(response.payload))
        .map_err(|failure| Error::internal(format!("decode the answer of {what}")).with_source(failure))
}

/// A unary method that always runs to its end, whatever becomes of the caller.
///
/// The handler runs in a task of its own: a timeout or a lost connection takes away the answer, never half of the work.
pub fn method<Req, Resp, F, Fut>(handler: F) -> Box<dyn MethodHandler + Send + Sync>
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
    F: Fn(RequestContext, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Resp>> + Send + 'static,
{
    Box::new(Method { handler, finishes: true, messages: PhantomData::<fn(Req) -> Resp> })
}

/// A unary method that changes nothing and may wait long (`Wait`): it is dropped when the caller goes.
pub fn waiting_method<Req, Resp, F, Fut>(handler: F) -> Box<dyn MethodHandler + Send + Sync>
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
    F: Fn(RequestContext, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Resp>> + Send + 'static,
{
    Box::new(Method { handler, finishes: false, messages: PhantomData::<fn(Req) -> Resp> })
}

/// A service by its full name and methods, as `Server::register_service` takes it.
///
/// A service without methods answers every call with [`ErrorKind::Unimplemented`]; one that is not registered at all answers
/// with [`ErrorKind::InvalidArgument`] (so does the `ttrpc` crate), which Go's clients do not take for an absence.
pub fn service<I>(name: &str, methods: I) -> HashMap<String, Service>
where
    I: IntoIterator<Item = (&'static str, Box<dyn MethodHandler + Send + Sync>)>,
{
    let methods = methods.into_iter().map(|(name, method)| (name.to_owned(), method)).collect();
    HashMap::from([(name.to_owned(), Service { methods, streams: HashMap::new() })])
}

/// The status of an error, as ttrpc sends it.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let whole = status::status(error);
    let mut status = Status { message: whole.message, ..Default::default() };
    if let Some(code) = CODES.get(usize::try_from(whole.code).unwrap_or(usize::MAX)) {
        status.set_code(*code);
    }
    status.details = whole
        .details
        .into_iter()
        .map(|detail| ::ttrpc::proto::Any {
            type_url: detail.type_url,
            value: detail.value,
            ..Default::default()
        })
        .collect();
    status
}

/// The error that a ttrpc status stands for.
#[must_use]
pub fn from_status(status: &Status) -> Error {
    status::error(status.code.value(), &status.message)
}

/// The error of the `ttrpc` crate as ours: statuses by their code, everything else as a connection that is gone.
#[must_use]
pub fn from_error(what: &str, failure: ::ttrpc::Error) -> Error {
    from_call_error(what, failure, false)
}

/// ttrpc's codes by their number.
const CODES: [::ttrpc::Code; 17] = {
    use ::ttrpc::Code;
    [
        Code::OK,
        Code::CANCELLED,
        Code::UNKNOWN,
        Code::INVALID_ARGUMENT,
        Code::DEADLINE_EXCEEDED,
        Code::NOT_FOUND,
        Code::ALREADY_EXISTS,
        Code::PERMISSION_DENIED,
        Code::RESOURCE_EXHAUSTED,
        Code::FAILED_PRECONDITION,
        Code::ABORTED,
        Code::OUT_OF_RANGE,
        Code::UNIMPLEMENTED,
        Code::INTERNAL,
        Code::UNAVAILABLE,
        Code::DATA_LOSS,
        Code::UNAUTHENTICATED,
    ]
};

struct Method<F, M> {
    handler: F,
    finishes: bool,
    messages: PhantomData<M>,
}

#[async_trait]
impl<Req, Resp, F, Fut> MethodHandler for Method<F, fn(Req) -> Resp>
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
    F: Fn(RequestContext, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Resp>> + Send + 'static,
{
    async fn handler(&self, context: TtrpcContext, request: Request) -> ::ttrpc::Result<Response> {
        let what = format!("{}/{}", request.service, request.method);
        let answer = match Req::decode(Bytes::from(request.payload)) {
            Ok(message) => {
                let work = (self.handler)(request_context(&context), message);
                if self.finishes {
                    tokio::spawn(work).await.unwrap_or_else(|failure| {
                        Err(Error::internal(format!("the handler of {what} failed")).with_source(failure))
                    })
                } else {
                    work.await
                }
            }
            Err(failure) => {
                Err(Error::invalid_argument(format!("decode the request of {what}")).with_source(failure))
            }
        };
        Ok(respond(&what, answer))
    }
}

fn respond<Resp: Message>(what: &str, answer: Result<Resp>) -> Response {
    let payload = answer.and_then(|message| {
        let payload = message.encode_to_vec();
        if payload.len() > MAX_MESSAGE_BYTES {
            return Err(Error::resource_exhausted(too_large(what, "answer", payload.len())));
        }
        Ok(payload)
    });
    let mut response = Response::default();
    match payload {
        Ok(payload) => {
            response.set_status(Status::default());
            response.payload = payload;
        }
        Err(error) => response.set_status(to_status(&error)),
    }
    response
}

fn request_context(context: &TtrpcContext) -> RequestContext {
    let value = |key: &str| context.metadata.get(key).and_then(|values| values.first()).cloned();
    RequestContext {
        namespace: value(GRPC_NAMESPACE_HEADER).or_else(|| value(NAMESPACE_HEADER)),
        timeout: u64::try_from(context.timeout_nano)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos),
    }
}

fn from_call_error(what: &str, failure: ::ttrpc::Error, late: bool) -> Error {
    match failure {
        ::ttrpc::Error::RpcStatus(status) => from_status(&status),
        _ if late => Error::deadline_exceeded(format!("{what} was not answered in time")),
        other => {
            Error::new(ErrorKind::Unavailable, format!("{what}: the connection failed")).with_source(other)
        }
    }
}

fn header(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned(), ..Default::default() }
}

/// ttrpc's form of a timeout: zero is none, so the shortest is one nanosecond.
fn timeout_nanos(timeout: Option<Duration>) -> i64 {
    timeout.map_or(0, |limit| i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX).max(1))
}

fn too_large(what: &str, which: &str, size_bytes: usize) -> String {
    format!("the {which} of {what} has {size_bytes} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
}
