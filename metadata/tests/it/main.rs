//! The store as its callers see it.

mod doubles;
mod rows;
mod support;
