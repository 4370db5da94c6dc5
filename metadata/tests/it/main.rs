//! The store as its callers see it.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without ends it")]

mod collection;
mod content;
mod doubles;
mod faults;
mod model;
mod opening;
mod random;
mod resources;
mod rows;
mod snapshots;
mod support;
