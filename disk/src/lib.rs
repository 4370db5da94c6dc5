#![doc = include_str!("../README.md")]

mod disk;
mod file;
mod filesystem;
mod lock;
mod remove;
mod seam;
#[cfg(feature = "testing")]
pub mod testing;
mod waiting;

pub use disk::Disk;
pub use file::DiskFile;
pub use filesystem::{FilesystemSync, Space, space};
pub use lock::{LockError, RootLock};
pub use seam::{FileId, Operation, Seam, Step};
pub use waiting::{may_wait, waiting_allowed};
