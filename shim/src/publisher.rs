//! Brings events to the daemon, in order and again until it answers (row H42).

use std::{
    collections::VecDeque,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use corten_api::{
    containerd::{services::events::ttrpc::v1::ForwardRequest, types::Envelope},
    ttrpc::{CallContext, call},
};
use corten_types::{Error, ErrorKind, Result};
use prost::Message;
use tokio::sync::Notify;
use ttrpc::asynchronous::{Client, transport::Socket};

use crate::{
    events::{Event, envelope},
    log,
    reaper::Reaper,
};

/// How many events wait for the daemon at the most.
pub(crate) const MAX_QUEUED_EVENTS: usize = 2048;

/// How long the daemon may take for one event.
const FORWARD_DEADLINE: Duration = Duration::from_secs(5);

/// The pause after a first failure; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause. Looking for the daemon's socket costs next to nothing, and an exit should not wait long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often an event is sent to a daemon that answers with an error.
const MAX_REFUSALS: u32 = 5;

/// The full name of the service that takes events.
const EVENTS_SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The daemon's ttrpc socket.
    Ttrpc(String),
    /// A program that publishes one event each time it runs (row H79), and the daemon's gRPC address for it.
    Binary { program: String, address: String },
}

/// The queue of events.
pub(crate) struct Publisher {
    namespace: String,
    destination: Destination,
    queue: Mutex<VecDeque<Envelope>>,
    /// Somebody put an event into the queue.
    filled: Notify,
    /// The queue has become empty.
    emptied: Notify,
}

impl Publisher {
    pub(crate) fn new(namespace: &str, destination: Destination) -> Arc<Self> {
        Arc::new(Self {
            namespace: namespace.to_owned(),
            destination,
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Envelope>> {
        // No code that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event. When the queue is full the oldest one goes that is not an exit, or else the oldest exit.
    pub(crate) fn publish<E: Event>(&self, event: &E) {
        let envelope = envelope(&self.namespace, event);
        let mut queue = self.lock();
        if queue.len() >= MAX_QUEUED_EVENTS {
            // The first is being sent; it stays, or the sender would take another one out in its place.
            let victim = (1..queue.len()).find(|at| queue[*at].topic != "/tasks/exit").unwrap_or(1);
            if let Some(lost) = queue.remove(victim) {
                log::warn(format_args!("the daemon takes no events; one of {} is lost", lost.topic));
            }
        }
        queue.push_back(envelope);
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until every event was taken by the daemon, at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let emptied = async {
            loop {
                let notified = self.emptied.notified();
                if self.lock().is_empty() {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(limit, emptied).await.is_err() {
            log::warn(format_args!("events were not taken by the daemon before the shim ended"));
        }
    }

    /// Sends events as they come. Never ends.
    pub(crate) async fn run(&self, reaper: Arc<Reaper>) {
        let mut connection = Connection { destination: self.destination.clone(), reaper, client: None };
        loop {
            let next = self.lock().front().cloned();
            match next {
                Some(envelope) => {
                    connection.deliver(envelope).await;
                    let mut queue = self.lock();
                    queue.pop_front();
                    if queue.is_empty() {
                        queue.shrink_to(8);
                        self.emptied.notify_waiters();
                    }
                }
                None => self.filled.notified().await,
            }
        }
    }
}

/// The connection to the daemon, made when it is needed.
struct Connection {
    destination: Destination,
    reaper: Arc<Reaper>,
    client: Option<Client>,
}

impl Connection {
    /// Sends one event until the daemon has taken it, or refused it too often.
    async fn deliver(&mut self, envelope: Envelope) {
        let mut pause = FIRST_PAUSE;
        let mut refusals = 0;
        loop {
            let Err(error) = self.send(&envelope).await else { return };
            self.client = None;
            log::debug(format_args!("publish {}: {}", envelope.topic, error.chain()));
            let unreachable = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded);
            if !unreachable {
                refusals += 1;
                if refusals >= MAX_REFUSALS {
                    log::warn(format_args!("the daemon refused {}: {}", envelope.topic, error.chain()));
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&mut self, envelope: &Envelope) -> Result<()> {
        match &self.destination {
            Destination::Ttrpc(address) => {
                let client = match &self.client {
                    Some(client) => client.clone(),
                    None => self.client.insert(connect(address).await?).clone(),
                };
                let context = CallContext::new(&envelope.namespace).with_timeout(FORWARD_DEADLINE);
                let request = ForwardRequest { envelope: Some(envelope.clone()) };
                call::<_, ()>(&client, EVENTS_SERVICE, "Forward", &context, &request).await
            }
            Destination::Binary { program, address } => {
                publish_with(&self.reaper, program, address, envelope).await
            }
        }
    }
}

async fn connect(address: &str) -> Result<Client> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    let stream = tokio::net::UnixStream::connect(path).await.map_err(|error| {
        Error::unavailable(format!("connect to the daemon's events at {path}")).with_source(error)
    })?;
    Ok(Client::new(Socket::new(stream)))
}

async fn publish_with(reaper: &Reaper, program: &str, address: &str, envelope: &Envelope) -> Result<()> {
    let unavailable = |error: std::io::Error| {
        Error::unavailable(format!("publish {} with {program}", envelope.topic)).with_source(error)
    };
    let (input, mut writer) = std::io::pipe().map_err(unavailable)?;
    let event = envelope.event.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    // An event is far smaller than a pipe, so this does not block.
    std::io::Write::write_all(&mut writer, &event).map_err(unavailable)?;
    drop(writer);
    let mut command = Command::new(program);
    command
        .args([
            "--address",
            address,
            "publish",
            "--topic",
            &envelope.topic,
            "--namespace",
            &envelope.namespace,
        ])
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (_, exit) = reaper.spawn(command).map_err(unavailable)?;
    let code = exit.await.map_or(255, |exit| exit.code());
    if code == 0 {
        return Ok(());
    }
    Err(Error::unavailable(format!("publish {} with {program}: exit status {code}", envelope.topic)))
}

#[cfg(test)]
#[path = "publisher/tests.rs"]
mod tests;
