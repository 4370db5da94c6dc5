//! Real mounts, in mount namespaces that end with the test.
#![allow(clippy::unwrap_used, reason = "what a test cannot go on without ends it")]

mod activating;
mod leftovers;
mod refusals;
mod support;
