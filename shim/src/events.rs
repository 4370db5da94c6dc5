//! What the shim tells the daemon of (rows H37 and H42), and the topics.

use std::time::SystemTime;

use corten_api::containerd::{
    events::{
        TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOom,
        TaskPaused, TaskResumed, TaskStart,
    },
    types::Envelope,
};
use prost::Name;
use prost_types::Any;

/// An event with the topic that it is published under.
pub(crate) trait Event: Name {
    const TOPIC: &'static str;
}

macro_rules! topics {
    ($($event:ty => $topic:literal),* $(,)?) => {
        $(impl Event for $event {
            const TOPIC: &'static str = $topic;
        })*
    };
}

topics! {
    TaskCreate => "/tasks/create",
    TaskStart => "/tasks/start",
    TaskExit => "/tasks/exit",
    TaskDelete => "/tasks/delete",
    TaskExecAdded => "/tasks/exec-added",
    TaskExecStarted => "/tasks/exec-started",
    TaskOom => "/tasks/oom",
    TaskPaused => "/tasks/paused",
    TaskResumed => "/tasks/resumed",
    TaskCheckpointed => "/tasks/checkpointed",
}

/// `event` of `namespace`, as the daemon takes it. The type is named without a host (row X09).
pub(crate) fn envelope<E: Event>(namespace: &str, event: &E) -> Envelope {
    Envelope {
        timestamp: Some(SystemTime::now().into()),
        namespace: namespace.to_owned(),
        topic: E::TOPIC.to_owned(),
        event: Some(any(event)),
    }
}

/// A message in an `Any` with the bare name of its type.
pub(crate) fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}
