//! Tests of the shared types.

mod digests;
mod errors;
mod identifiers;
mod labels;
