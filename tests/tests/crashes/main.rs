//! Crashes of the real daemon under load, and other mishaps: it is killed, the power goes, the disk is full.
//!
//! Clients work and keep ledgers of what they were told, outside of the daemon. After a crash what was acknowledged is there, byte for
//! byte, and of the rest nothing is there by halves.
//!
//! `CORTEN_TEST_KILLS` and `CORTEN_TEST_CUTS` say how many crashes there are, `CORTEN_TEST_SEED` what the clients do; when kills come is up
//! to the machine.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stop at the first surprise")]

mod clients;
mod cuts;
mod full;
mod kills;
mod ledger;
mod load;
mod recording;
mod session;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
