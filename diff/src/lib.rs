#![doc = include_str!("../README.md")]

mod apply;
pub mod archive;
mod changes;
mod compare;
mod comparer;
mod contract;
mod decompress;
mod differ;
mod early;
mod gzip;
mod layer_writer;
mod media;
mod pipeline;
mod processor;
mod source;
mod target;
pub mod unpack;

pub use contract::{Applier, ApplyOptions, CompareOptions, Comparer, EarlyApplier};
pub use decompress::{Compression, decompressor};
pub use differ::{DifferOptions, WalkingDiffer};
pub use processor::StreamProcessor;
