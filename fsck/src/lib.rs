#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod affected;
mod aside;
mod blobs;
mod catalogue;
mod check;
mod finding;
mod manifests;
mod pool;
mod rebuild;
mod references;
mod repair;
mod rows;
mod session;
mod snapshots;
mod store;
mod trees;

pub use accept::accept;
pub use check::{Event, Progress, Report, Scope, check};
pub use finding::{Affected, Finding, Kind, Severity, Thing};
pub use rebuild::{Rebuilt, rebuild};
pub use repair::{RepairOptions, Repaired, repair};
pub use session::{Request, Step, Summary, run};
pub use store::{Layout, SnapshotterLayout, Store};
