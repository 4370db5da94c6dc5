//! Checks the collector against a plain model.

mod model;
mod sweep;
