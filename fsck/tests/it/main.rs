//! Stores made by real unpacking, damaged and repaired.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stop at the first surprise")]

mod checks;
mod damage;
mod random;
mod rebuilding;
mod world;
