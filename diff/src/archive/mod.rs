//! Reading and writing tar archives the way layers need it.
//!
//! The reader agrees with Go's `archive/tar`, which decides what a layer contains everywhere else: two parsers that
//! disagree would let one archive look different to a scanner and to the runtime. Whatever an archive says, it holds
//! no more than [`MAX_EXTENSION_BYTES`] of each kind of extension in memory.

mod block;
mod entry;
mod error;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Entry, EntryKind, Time};
pub use error::ArchiveError;
pub use pax::MAX_EXTENSION_BYTES;
pub use reader::{Piece, Reader};
pub use writer::{Header, Writer};

#[cfg(test)]
mod tests;
