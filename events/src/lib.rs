#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod envelope;
mod exchange;
mod queue;
mod topic;

pub use envelope::{Envelope, EventFields, NoEventFields};
pub use exchange::{Exchange, Limits, MAX_QUEUE_BYTES, MAX_SUBSCRIBERS, Subscription};
pub use topic::{TASK_EXIT_TOPIC, Topic};
