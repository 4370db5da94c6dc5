#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod driver;
mod mapping;
mod probe;

pub use driver::{LABEL_UPPERDIR, Options, Overlay};

/// Snapshots on overlayfs (plugin id `overlayfs`).
pub type OverlaySnapshotter = corten_snapshotter::LocalSnapshotter<Overlay>;
