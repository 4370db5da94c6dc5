//! What end-to-end tests, the demo and the benchmarks share: real programs on scratch folders, and a look at what
//! they left behind.

#![allow(clippy::disallowed_methods, reason = "scratch files need not survive a power cut")]

mod block_file;
mod client;
mod daemon;
mod ext4;
mod image;
mod leaks;
mod programs;
mod pty;
mod registry;
mod wait;

pub use block_file::{BlockFile, SlowDisk, Storage};
pub use client::{Ctr, Run};
pub use daemon::{Daemon, DaemonOptions, Kind};
pub use ext4::Ext4;
pub use image::Image;
pub use leaks::{assert_nothing_left, loop_devices, mounts, what_is_left};
pub use programs::{Programs, root_or_skip};
pub use pty::Pty;
pub use registry::Registry;
pub use wait::{PATIENCE, eventually};
