#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod activations;
mod handler;
mod ledger;
mod names;
mod plan;
mod record;
mod roots;
mod transform;
mod workspace;

pub use activations::Activations;
pub use handler::Handler;
pub use ledger::{Begun, Entry, Ledger, MemoryLedger, ReadLedger, Scope};
pub use plan::MAX_MOUNTS;
pub use record::{ActivateOptions, Activation, ActiveMount};
pub use workspace::{Found, Options, Workspace};
