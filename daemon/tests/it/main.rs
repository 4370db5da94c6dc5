//! Tests of the daemon's own parts: configuration and command line.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stop at the first surprise")]

mod command_line;
mod configuration;
