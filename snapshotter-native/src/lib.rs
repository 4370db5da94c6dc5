//! Snapshots as plain copies.
