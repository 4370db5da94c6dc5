//! How a database is opened.

use corten_disk::Disk;

use crate::migration::Migration;

/// How a database is opened. The defaults suit a daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// The schema, as steps from an empty database.
    pub migrations: &'static [Migration],
    /// The disk that files beside the database go through. If it has a seam (feature `testing`), SQLite's own files pass
    /// it too, and no thread but the writer runs: checkpoints are made when [`Database::checkpoint`](crate::Database::checkpoint) is called.
    pub disk: Disk,
    /// How many reads run at once; more wait.
    pub readers: usize,
    /// How many operations may wait for the writer; more wait outside.
    pub queue_length: usize,
    /// How many operations are committed together at the most.
    pub batch_length: usize,
    /// The write-ahead log is copied into the database in the background from this length on.
    pub checkpoint_bytes: u64,
    /// From this length on the log is also cut, which makes writers wait for a moment. From twice this length on the
    /// writer cuts it itself, unless a reader holds it back.
    pub wal_limit_bytes: u64,
    /// The length of the reserve file that is given up when the disk is full; zero for none.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            migrations: &[],
            disk: Disk::new(),
            readers: 4,
            queue_length: 1024,
            batch_length: 256,
            checkpoint_bytes: 4 << 20,
            wal_limit_bytes: 64 << 20,
            reserve_bytes: 4 << 20,
        }
    }
}
