#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod hook;
pub mod identity;
pub mod logging;
mod plugins;
pub mod publish;
mod runtime_info;
mod stores;
