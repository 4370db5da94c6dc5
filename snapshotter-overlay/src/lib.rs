//! Snapshots on overlayfs.
