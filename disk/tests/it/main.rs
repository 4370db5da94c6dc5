//! Tests of the durable file operations, of their seam and of the script.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may stop and writes what it likes"
)]

mod files;
mod locks;
mod script;
