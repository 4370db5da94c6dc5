#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bootstrap;
mod bundle;
mod burial;
mod client;
mod command;
mod connection;
mod convert;
mod create;
mod exits;
mod info;
mod inner;
mod log;
mod lookup;
mod model;
mod observe;
mod options;
mod orphan;
mod recover;
mod registry;
mod rootfs;
mod shim;
mod task;
mod tasks;

use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_types::{Error, Result};

pub use model::{
    CreateOptions, Created, ExecOptions, Exit, Metric, Process, ProcessInfo, Recovery, RuntimeInfo, Status,
};
pub use options::{Options, Timeouts};
pub use tasks::Tasks;

/// Locks a mutex whose content is whole between any two statements, so that a panic elsewhere does not spread.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs file and mount operations where they block nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|failure| Err(Error::internal("work on files failed").with_source(failure)))
}
