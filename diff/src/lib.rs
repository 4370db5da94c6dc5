//! Apply a layer to mounts, and compute a layer from two sets of mounts.

mod contract;

pub use contract::{Applier, ApplyOptions, CompareOptions, Comparer};
