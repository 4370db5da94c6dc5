//! An event with when, where and about what.

use std::{borrow::Cow, time::SystemTime};

use corten_filter::Fields;
use corten_types::{Any, Error, Namespace, Result};

use crate::Topic;

/// An event on its way (row E06).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// When it happened.
    pub timestamp: SystemTime,
    /// Where.
    pub namespace: Namespace,
    /// About what.
    pub topic: Topic,
    /// The event, as its publisher encoded it.
    pub event: Any,
}

impl Envelope {
    /// An envelope that somebody else made, after the checks of row E02.
    ///
    /// # Errors
    /// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument): the namespace or the topic is malformed, or there is
    /// no timestamp.
    pub fn received(timestamp: Option<SystemTime>, namespace: &str, topic: &str, event: Any) -> Result<Self> {
        let namespace = namespace.parse()?;
        let topic: Topic = topic.parse()?;
        let timestamp = timestamp.ok_or_else(|| {
            Error::invalid_argument(format!("a forwarded event of topic {topic} must have a timestamp"))
        })?;
        Ok(Self { timestamp, namespace, topic, event })
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + self.namespace.as_str().len()
            + self.topic.as_str().len()
            + self.event.type_url.len()
            + self.event.value.len()
    }
}

/// Reads the fields of encoded events, so that filters can look at them. Whoever knows the messages implements it.
pub trait EventFields: Send + Sync {
    /// The value of the field at `path`, in the protocol's names (`["container_id"]`); `None` if the event has none, or if
    /// its type is unknown or its bytes are damaged (row E04).
    fn field(&self, event: &Any, path: &[&str]) -> Option<String>;
}

/// Knows no events: filters on `event.…` find nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEventFields;

impl EventFields for NoEventFields {
    fn field(&self, _event: &Any, _path: &[&str]) -> Option<String> {
        None
    }
}

/// An envelope as filters see it (row E04).
pub(crate) struct Filtered<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) event_fields: &'a dyn EventFields,
}

impl Fields for Filtered<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["namespace", ..] => Some(Cow::Borrowed(self.envelope.namespace.as_str())),
            ["topic", ..] => Some(Cow::Borrowed(self.envelope.topic.as_str())),
            ["event", rest @ ..] => self.event_fields.field(&self.envelope.event, rest).map(Cow::Owned),
            _ => None,
        }
    }
}
