#![doc = include_str!("../README.md")]

mod answer;
mod checkpoint;
mod connection;
mod core;
mod damage;
mod database;
mod error;
mod evidence;
mod identity;
mod job;
mod marker;
mod migration;
mod open;
mod options;
mod queue;
mod readers;
mod record;
mod reserve;
mod salvage;
mod schema;
mod statistics;
mod store_id;
mod turn;
#[cfg(feature = "testing")]
mod vfs;
mod writer;

pub use answer::Answer;
pub use checkpoint::Checkpoint;
pub use database::Database;
pub use error::{Doing, Refusal};
pub use migration::Migration;
pub use open::{Health, OpenReport};
pub use options::Options;
pub use rusqlite;
pub use salvage::Salvage;
pub use statistics::{Histogram, Statistics};
pub use store_id::{StoreId, StoreIdFile};
