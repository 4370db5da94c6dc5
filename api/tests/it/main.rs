//! Integration tests: the facts of the wire, errors, conversions and calls over ttrpc.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod conversions;
mod errors;
mod facts;
mod over_ttrpc;
