#![doc = include_str!("../README.md")]

mod helper;
mod idmap;
mod loop_device;
mod mountinfo;
mod options;
mod overlay;
mod perform;
mod resolve;
mod temporary;
mod unmount;

pub use loop_device::{LoopDevice, LoopOptions, loop_backing_file, release_loop_device};
pub use mountinfo::{MountEntry, mounts_below, own_mounts};
pub use perform::{mount, mount_all};
pub use temporary::{TemporaryMount, cleanup_temporary_mounts, read_only_mounts, without_volatile};
pub use unmount::{UnmountFlags, unmount, unmount_mounts, unmount_recursive};
