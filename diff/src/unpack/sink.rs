//! Telling somebody what a layer put where.

use std::{fmt::Debug, path::Path};

use corten_types::Result;

/// What was put at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placed<'a> {
    /// A directory, also one that was made because a path led through it.
    Directory,
    /// A regular file, whole.
    File {
        /// Its length, holes included.
        size_bytes: u64,
        /// The CRC-32C of its bytes, holes as zeros.
        crc32c: u32,
    },
    /// One more name of what was put at `target`, a path below the root without links in it.
    HardLink {
        /// The first name.
        target: &'a [u8],
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: &'a [u8],
    },
    /// A named pipe.
    Fifo,
    /// A character device; 0 is overlayfs's mark of a deletion.
    CharacterDevice {
        /// The number, as `st_rdev` has it.
        device: u64,
    },
    /// A block device.
    BlockDevice {
        /// The number, as `st_rdev` has it.
        device: u64,
    },
}

/// Takes what a layer puts into a tree, in an order in which what replaces something comes after it.
///
/// Paths begin at the root of the tree, without a leading slash, and have no links in them.
pub trait TreeSink: Send {
    /// Something was put at `path`. It replaces what was there before.
    fn put(&mut self, path: &[u8], placed: Placed<'_>);

    /// What was at `path`, and below it, was removed.
    fn remove(&mut self, path: &[u8]);

    /// The layer is unpacked, and nothing of it changes any more.
    ///
    /// # Errors
    /// Whatever kept it from being of use; the layer is unpacked all the same.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Decides which layers somebody wants to be told about.
pub trait TreeObserver: Debug + Send + Sync {
    /// A layer is about to be unpacked into `folder`, directly. It blocks.
    ///
    /// # Errors
    /// The layer is unpacked all the same.
    fn observe(&self, folder: &Path) -> Result<Option<Box<dyn TreeSink>>>;
}

/// A sink or none.
pub(crate) struct Told<'a>(pub(crate) Option<&'a mut dyn TreeSink>);

impl Told<'_> {
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn put(&mut self, path: &[u8], placed: Placed<'_>) {
        if let Some(sink) = &mut self.0 {
            sink.put(path, placed);
        }
    }

    pub(crate) fn remove(&mut self, path: &[u8]) {
        if let Some(sink) = &mut self.0 {
            sink.remove(path);
        }
    }
}

/// The CRC-32C of a file that grows by data and by holes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checksum(u32);

impl Checksum {
    pub(crate) fn add(&mut self, data: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, data);
    }

    /// Goes on over zeros in a time that grows with the number of binary digits of `length`.
    pub(crate) fn add_hole(&mut self, length: u64) {
        let (mut rest, mut sum, mut bytes) = (length, crc32c::crc32c(&[0]), 1_usize);
        while rest > 0 {
            if rest & 1 == 1 {
                self.0 = crc32c::crc32c_combine(self.0, sum, bytes);
            }
            rest >>= 1;
            if rest > 0 {
                sum = crc32c::crc32c_combine(sum, sum, bytes);
                bytes <<= 1;
            }
        }
    }

    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_counts_as_its_zeros() {
        for length in [0, 1, 2, 3, 511, 4096, 100_001] {
            let (mut holed, mut full) = (Checksum::default(), Checksum::default());
            holed.add(b"before");
            full.add(b"before");
            holed.add_hole(length);
            full.add(&vec![0; usize::try_from(length).unwrap()]);
            holed.add(b"after");
            full.add(b"after");
            assert_eq!(holed.value(), full.value(), "{length}");
        }
    }
}
