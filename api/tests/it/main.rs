//! Integration tests: the facts of the wire, errors, conversions and calls over ttrpc.

mod conversions;
mod errors;
mod facts;
mod over_ttrpc;
