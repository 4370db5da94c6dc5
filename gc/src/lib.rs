#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod graph;
mod marker;
mod schedule;
mod sweep;

pub use graph::Graph;
pub use marker::{Edges, Marker};
pub use schedule::{Schedule, Scheduler};
pub use sweep::{Batch, Clock, MonotonicClock, Store, Sweep};
