//! The exchange: hands every event to every subscriber whose filters match.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use corten_filter::Filters;
use corten_types::{Any, Error, Namespace, Result};

use crate::{
    Envelope, EventFields,
    envelope::Filtered,
    queue::{Queue, Taken},
};

/// The bytes of events that may wait for one subscriber. An exit takes about 300 bytes: room for a hundred thousand.
pub const MAX_QUEUE_BYTES: usize = 32 << 20;

/// The subscriptions that there may be at once.
pub const MAX_SUBSCRIBERS: usize = 4096;

/// The limits of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`MAX_QUEUE_BYTES`].
    pub queue_bytes: usize,
    /// See [`MAX_SUBSCRIBERS`].
    pub subscribers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue_bytes: MAX_QUEUE_BYTES, subscribers: MAX_SUBSCRIBERS }
    }
}

/// Hands every event to every subscriber whose filters match, whatever its namespace (row E03).
///
/// Clones share their subscribers.
#[derive(Clone)]
pub struct Exchange {
    shared: Arc<Shared>,
}

struct Shared {
    event_fields: Arc<dyn EventFields>,
    limits: Limits,
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    /// Replaced as a whole, so that publishing needs the lock only to take a copy of the pointer.
    current: Arc<Vec<Arc<Subscriber>>>,
    closed: bool,
}

struct Subscriber {
    filters: Filters,
    queue: Queue,
}

impl Exchange {
    /// An exchange without subscribers. `event_fields` reads what filters on `event.…` ask for.
    pub fn new(event_fields: Arc<dyn EventFields>) -> Self {
        Self::with_limits(event_fields, Limits::default())
    }

    /// An exchange with limits of one's own.
    pub fn with_limits(event_fields: Arc<dyn EventFields>, limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { event_fields, limits, subscribers: Mutex::default() }) }
    }

    /// Publishes an event of now (row E01), and returns it as subscribers get it. It never waits for a subscriber.
    ///
    /// # Errors
    /// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument): the topic is malformed. Nobody gets the event.
    pub fn publish(&self, namespace: &Namespace, topic: &str, event: Any) -> Result<Arc<Envelope>> {
        let envelope = Envelope {
            timestamp: SystemTime::now(),
            namespace: namespace.clone(),
            topic: topic.parse()?,
            event,
        };
        let envelope = Arc::new(envelope);
        self.hand_out(&envelope);
        Ok(envelope)
    }

    /// Publishes an event of another publisher, with the time and the namespace that it says (row E02).
    ///
    /// [`Envelope::received`] makes the checks. It never waits for a subscriber.
    pub fn forward(&self, envelope: Envelope) {
        self.hand_out(&Arc::new(envelope));
    }

    /// Begins to receive what is published from now on and matches `filters`. There is no replay.
    ///
    /// # Errors
    /// - [`ResourceExhausted`](corten_types::ErrorKind::ResourceExhausted): there are too many subscribers.
    /// - [`Unavailable`](corten_types::ErrorKind::Unavailable): the exchange was closed.
    pub fn subscribe(&self, filters: Filters) -> Result<Subscription> {
        let mut subscribers = self.shared.lock();
        if subscribers.closed {
            return Err(Error::unavailable("events cannot be subscribed to: the exchange is closed"));
        }
        if subscribers.current.len() >= self.shared.limits.subscribers {
            return Err(Error::resource_exhausted(format!(
                "events have {} subscribers already, more are not allowed",
                self.shared.limits.subscribers
            )));
        }
        let subscriber = Arc::new(Subscriber { filters, queue: Queue::new(self.shared.limits.queue_bytes) });
        let mut next = Vec::clone(&subscribers.current);
        next.push(Arc::clone(&subscriber));
        subscribers.current = Arc::new(next);
        Ok(Subscription { shared: Arc::clone(&self.shared), subscriber })
    }

    /// Ends every subscription after what waits for it, and refuses new ones. What is published later reaches nobody.
    pub fn close(&self) {
        let mut subscribers = self.shared.lock();
        subscribers.closed = true;
        let current = std::mem::take(&mut subscribers.current);
        drop(subscribers);
        for subscriber in current.iter() {
            subscriber.queue.close();
        }
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.shared.lock().current.len()
    }

    fn hand_out(&self, envelope: &Arc<Envelope>) {
        let subscribers = Arc::clone(&self.shared.lock().current);
        let filtered = Filtered { envelope, event_fields: self.shared.event_fields.as_ref() };
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.filters.matches(&filtered)) {
            subscriber.queue.push(envelope);
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Exchange")
            .field("subscribers", &self.subscriber_count())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription. It ends when it is dropped.
pub struct Subscription {
    shared: Arc<Shared>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Waits for the next event; `None` when the exchange was closed and nothing waits any more.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ResourceExhausted`](corten_types::ErrorKind::ResourceExhausted), once and as the last: events were lost because they
    /// were not taken fast enough. Exits of tasks are the last that are given up.
    pub async fn recv(&mut self) -> Option<Result<Arc<Envelope>>> {
        loop {
            match self.subscriber.queue.take() {
                Taken::Event(envelope) => return Some(Ok(envelope)),
                Taken::Overflowed(error) => return Some(Err(error)),
                Taken::Closed => return None,
                Taken::Nothing => self.subscriber.queue.changed().await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscriber.queue.close();
        let mut subscribers = self.shared.lock();
        let others =
            subscribers.current.iter().filter(|other| !Arc::ptr_eq(other, &self.subscriber)).cloned();
        subscribers.current = Arc::new(others.collect());
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Subscription")
            .field("filters", &self.subscriber.filters)
            .finish_non_exhaustive()
    }
}
