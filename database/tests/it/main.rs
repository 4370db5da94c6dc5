//! Tests of the database: outcomes, batches, failures, power cuts, damage.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may stop and writes what it likes"
)]

mod batches;
mod damage;
mod failures;
mod model;
mod opening;
mod outcomes;
mod power;
mod readers;
mod reserve;
mod support;
