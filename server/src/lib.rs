#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod authority;
pub mod request;
pub mod services;
pub mod transport;
pub mod ttrpc;
