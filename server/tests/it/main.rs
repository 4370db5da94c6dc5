//! Integration tests: real clients against the services on unix sockets.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod content;
mod events;
mod foreign_clients;
mod limits;
mod memory;
mod mounts;
mod records;
mod sandboxes;
mod snapshots;
mod sockets;
mod support;
mod tasks;
mod uploads;
