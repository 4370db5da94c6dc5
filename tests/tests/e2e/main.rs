//! End to end: Debian's `ctr`, runc and registry against a daemon as a process.
//!
//! `CORTEN_TEST_PEER=containerd cargo test -p corten-tests` runs the same tests against Debian's containerd, to see
//! that they ask for what containerd does.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stop at the first surprise")]

mod content;
mod crash;
mod fixture;
mod fsck;
mod images;
mod layers;
mod many;
mod metadata;
mod mounts;
mod peers;
mod refusals;
mod rows;
mod run;
mod snapshots;
mod tasks;
mod terminal;
mod wire;
