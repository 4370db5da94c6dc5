//! Snapshots as plain copies: layout, mounts as text, removal, failing disks.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod faults;
mod filesystems;
mod snapshots;
