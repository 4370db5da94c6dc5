//! Calls of a shim's task service, version 2 or 3, whose messages are the same (row H30).

use std::{sync::Arc, time::Duration};

use corten_api::{
    containerd::task::v3 as task,
    ttrpc::{CallContext, call},
};
use corten_types::{Error, ErrorKind, Namespace, Result};
use prost::Message;

use crate::{connection::Connection, registry::Key};

const SERVICE_V2: &str = "containerd.task.v2.Task";
const SERVICE_V3: &str = "containerd.task.v3.Task";

/// The answer without content that several methods give.
pub(crate) type Empty = ();

impl Connection {
    /// Calls `method`. The call goes on by itself if this future is dropped: only waiting for it ends.
    ///
    /// # Errors
    /// The shim's own, or
    /// - `Unavailable`: the connection is closed.
    /// - `ResourceExhausted`: [`MAX_CALLS_IN_FLIGHT`](crate::connection::MAX_CALLS_IN_FLIGHT) calls are unanswered.
    pub(crate) async fn call<Req, Resp>(
        self: &Arc<Self>,
        namespace: &Namespace,
        method: &'static str,
        request: Req,
    ) -> Result<Resp>
    where
        Req: Message + 'static,
        Resp: Message + Default + 'static,
    {
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            return Err(Error::resource_exhausted(format!("the shim at {} does not answer", self.address)));
        };
        let service = if self.version() >= 3 { SERVICE_V3 } else { SERVICE_V2 };
        let client = self.client.clone();
        // No time-out inside the call: the ttrpc crate closes the connection if it strikes while a frame is being written,
        // and a shim that is only slow would be taken for dead.
        let context = CallContext::new(namespace.as_str());
        let answer = tokio::spawn(async move {
            let _permit = permit;
            call(&client, service, method, &context, &request).await
        });
        answer
            .await
            .unwrap_or_else(|failure| Err(Error::internal("a call of a shim failed").with_source(failure)))
    }

    /// As [`call`](Self::call), waiting no longer than `limit`.
    ///
    /// # Errors
    /// Also `DeadlineExceeded`. The shim may still do it.
    pub(crate) async fn call_within<Req, Resp>(
        self: &Arc<Self>,
        namespace: &Namespace,
        method: &'static str,
        request: Req,
        limit: Duration,
    ) -> Result<Resp>
    where
        Req: Message + 'static,
        Resp: Message + Default + 'static,
    {
        let answer = tokio::time::timeout(limit, self.call(namespace, method, request)).await;
        answer.unwrap_or_else(|_| {
            Err(Error::deadline_exceeded(format!(
                "the shim at {} did not answer {method} in {limit:?}",
                self.address
            )))
        })
    }

    /// As [`call`](Self::call); a shim that has no version 3 is asked again with version 2, and from then on (H15, H75).
    pub(crate) async fn call_any_version<Req, Resp>(
        self: &Arc<Self>,
        namespace: &Namespace,
        method: &'static str,
        request: Req,
    ) -> Result<Resp>
    where
        Req: Message + Clone + 'static,
        Resp: Message + Default + 'static,
    {
        let answer = self.call(namespace, method, request.clone()).await;
        match answer {
            Err(error) if lacks_service(&error) && self.downgrade() => {
                tracing::warn!(address = %self.address, "the shim has no task service of version 3; using version 2");
                self.call(namespace, method, request).await
            }
            other => other,
        }
    }

    /// The shim's view of a task; its pids are 0 where it does not know the task (H31).
    pub(crate) async fn connect(self: &Arc<Self>, key: &Key) -> Result<task::ConnectResponse> {
        self.call_any_version(&key.namespace, "Connect", task::ConnectRequest { id: key.id.clone() }).await
    }

    pub(crate) async fn state(
        self: &Arc<Self>,
        key: &Key,
        exec_id: &str,
        limit: Duration,
    ) -> Result<task::StateResponse> {
        let request = task::StateRequest { id: key.id.clone(), exec_id: exec_id.to_owned() };
        self.call_within(&key.namespace, "State", request, limit).await
    }

    pub(crate) async fn pids(self: &Arc<Self>, key: &Key) -> Result<task::PidsResponse> {
        self.call(&key.namespace, "Pids", task::PidsRequest { id: key.id.clone() }).await
    }

    /// Asks the shim to end if it has no containers left (H34).
    pub(crate) async fn shut_down(self: &Arc<Self>, key: &Key, limit: Duration) -> Result<Empty> {
        let request = task::ShutdownRequest { id: key.id.clone(), now: false };
        self.call_within(&key.namespace, "Shutdown", request, limit).await
    }
}

/// Go's ttrpc says Unimplemented; Rust's says InvalidArgument with the path that it does not have.
fn lacks_service(error: &Error) -> bool {
    error.kind() == ErrorKind::Unimplemented
        || (error.kind() == ErrorKind::InvalidArgument && error.message().contains(SERVICE_V3))
}
