//! Mounting, unmounting and temporary mounts on Linux.
