//! The metastore and what a folder takes.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod manifest;
mod plain;
mod recording;
mod rows;
mod usage;
