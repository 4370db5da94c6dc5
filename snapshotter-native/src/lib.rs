#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod copy;
mod driver;

pub use driver::{Native, Options};

/// Snapshots as plain copies (plugin id `native`).
pub type NativeSnapshotter = corten_snapshotter::LocalSnapshotter<Native>;
