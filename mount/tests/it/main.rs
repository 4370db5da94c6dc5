//! Real mounts, in mount namespaces that end with the test.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod mounting;
mod support;
mod temporary;
mod unmounting;
