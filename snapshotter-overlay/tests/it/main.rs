//! Snapshots on overlayfs: layout, mounts as text, clean-up, mapped ids.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod faults;
mod kernel;
mod layout;
mod mounts;
mod removal;
mod support;
