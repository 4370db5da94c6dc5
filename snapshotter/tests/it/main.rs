//! The metastore and what a folder takes.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod rows;
mod usage;
