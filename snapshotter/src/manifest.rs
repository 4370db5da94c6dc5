//! Tree manifests: what a layer put into a snapshot, kept beside it, so that a file that changed on the disk can be found
//! later (`consistency.md` §5). The format is described in `docs/formats/manifest.md`.
//!
//! ```
//! use std::ops::ControlFlow;
//! use corten_disk::Disk;
//! use corten_snapshotter::manifest::{Entry, Writer, checksum, verify};
//!
//! let folder = tempfile::tempdir()?;
//! let (tree, manifest) = (folder.path().join("fs"), folder.path().join("manifest"));
//! std::fs::create_dir_all(tree.join("etc"))?;
//! std::fs::copy("/etc/hostname", tree.join("etc/name"))?;
//! let bytes = std::fs::read(tree.join("etc/name"))?;
//!
//! let mut writer = Writer::create(&Disk::new(), &manifest)?;
//! writer.put(b"etc", Entry::Folder);
//! writer.put(b"etc/name", Entry::File { size_bytes: bytes.len() as u64, checksum: checksum(0, &bytes) });
//! writer.seal()?;
//! let mut findings = Vec::new();
//! verify(&manifest, &tree, &mut |finding| {
//!     findings.push(finding);
//!     ControlFlow::Continue(())
//! })?;
//! assert!(findings.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod reader;
mod record;
mod sort;
mod verify;
pub(crate) mod walk;
mod writer;

pub use crate::local::{RecordTrees, Recorder};
pub use reader::Reader;
pub use verify::{Change, Finding, Verified, verify};
pub use writer::Writer;

/// The longest path that a manifest holds. A tree with a longer one has no manifest.
pub const PATH_LIMIT_BYTES: usize = 64 << 10;

/// What a layer put at a path. Names in it are bytes, as the filesystem has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A folder.
    Folder,
    /// A regular file with bytes of its own.
    File {
        /// Its length.
        size_bytes: u64,
        /// The CRC-32C of its bytes, holes read as zeros; see [`checksum`].
        checksum: u32,
    },
    /// A second name of what was put at `target`, a path from the root of the tree, before.
    HardLink {
        /// Where the first name is.
        target: &'a [u8],
    },
    /// A symbolic link, by the length and the CRC-32C of its target.
    Symlink {
        /// The length of the target.
        length_bytes: u64,
        /// The CRC-32C of the target.
        checksum: u32,
    },
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A character device; 0 is overlayfs' mark of a deletion.
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

impl Entry<'_> {
    /// A symbolic link to `target`.
    #[must_use]
    pub fn symlink(target: &[u8]) -> Self {
        Self::Symlink { length_bytes: target.len() as u64, checksum: checksum(0, target) }
    }
}

/// How a manifest ends: what it counts, and what proves that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The number of entries.
    pub entries: u64,
    /// The lengths of all files together, each file once however many names it has.
    pub file_bytes: u64,
    /// The CRC-32C of everything before it.
    pub checksum: u32,
}

/// Goes on with a CRC-32C: `sum` is 0 for the first bytes of a file, and what came out for those before afterwards.
#[must_use]
pub fn checksum(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}

#[cfg(test)]
mod tests;
