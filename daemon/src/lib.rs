#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod fsck;
pub mod hook;
pub mod identity;
pub mod logging;
mod manifests;
pub mod memory;
mod mounts;
mod plugin_details;
mod plugins;
pub mod publish;
mod stores;
