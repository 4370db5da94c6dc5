//! Mounts that show other owners than the files have (`uidmap=` and `gidmap=` of rows R02 and R06).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use corten_types::{Error, ErrorKind, Result};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::options::IdMapping;
use crate::unmount::{UnmountFlags, unmount};

/// Replaces the mount at `path` by one that shows mapped owners.
pub(crate) fn remap(path: &Path, mapping: &IdMapping) -> Result<()> {
    let tree = mapped_tree(path, mapping, 0)?;
    rustix::mount::move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(
        |error| Error::io(format!("cannot put the id-mapped mount at {}", path.display()), error.into()),
    )
}

/// A read-only, id-mapped view of a folder at a temporary place, gone with the value.
pub(crate) struct MappedFolder {
    path: PathBuf,
}

impl MappedFolder {
    pub(crate) fn mount(folder: &Path, mapping: &IdMapping) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tree = mapped_tree(folder, mapping, libc::MOUNT_ATTR_RDONLY)?;
        let name = format!("ovl-idmapped-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let cannot = |error: rustix::io::Errno| {
            Error::io(
                format!("cannot put an id-mapped view of {} at {}", folder.display(), path.display()),
                error.into(),
            )
        };
        rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU).map_err(cannot)?;
        let mapped = Self { path: path.clone() };
        rustix::mount::move_mount(&tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(cannot)?;
        Ok(mapped)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MappedFolder {
    fn drop(&mut self) {
        // The overlay has clones of its own by now; a leftover here is an empty folder in the temporary folder.
        if unmount(&self.path, UnmountFlags::DETACH).is_ok() {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// A detached clone of the mount that `path` is in, from `path` on, with mapped owners.
fn mapped_tree(path: &Path, mapping: &IdMapping, attributes: u64) -> Result<OwnedFd> {
    let namespace = user_namespace(mapping)?;
    let cannot = |error: io::Error| {
        let unsupported =
            matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP));
        let kind = if unsupported { ErrorKind::Unimplemented } else { ErrorKind::of_io(&error) };
        Error::new(kind, format!("the filesystem of {} cannot be mounted with mapped ids", path.display()))
            .with_source(error)
    };
    let tree = rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(|error| cannot(error.into()))?;
    let request = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd())
            .map_err(|_| Error::internal("a descriptor is negative"))?,
    };
    // SAFETY: the path is an empty C string, `request` has the kernel's layout and the length that is passed with
    // it, and both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&request),
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(cannot(io::Error::last_os_error())) } else { Ok(tree) }
}

/// A user namespace with this mapping. It lives as long as the descriptor.
fn user_namespace(mapping: &IdMapping) -> Result<OwnedFd> {
    let users = table(&mapping.users)?;
    let groups = table(&mapping.groups)?;
    let cannot = |error: io::Error| Error::io("cannot make a user namespace to map ids", error);
    let holder = Holder::start().map_err(cannot)?;
    let open = || -> io::Result<OwnedFd> {
        holder.write("uid_map", &users)?;
        holder.write("gid_map", &groups)?;
        Ok(File::open(format!("/proc/{}/ns/user", holder.process))?.into())
    };
    open().map_err(cannot)
}

/// A child that does nothing but be in a new user namespace, which has to be somebody's to be set up.
struct Holder {
    process: libc::pid_t,
}

impl Holder {
    fn start() -> io::Result<Self> {
        // SAFETY: all zeros is a valid request: a fork without anything shared.
        let mut request: libc::clone_args = unsafe { std::mem::zeroed() };
        // The table of descriptors is shared, not copied: a copy would hold locks and pipes of other threads.
        request.flags = (libc::CLONE_NEWUSER | libc::CLONE_FILES).cast_unsigned().into();
        request.exit_signal = libc::SIGCHLD.cast_unsigned().into();
        // SAFETY: without a stack of its own the child goes on here with a copy of this memory, as after fork.
        let process =
            unsafe { libc::syscall(libc::SYS_clone3, &raw const request, size_of::<libc::clone_args>()) };
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        if process == 0 {
            // SAFETY: only system calls, which is what is allowed after a fork of a process with threads.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        }
        let process = libc::pid_t::try_from(process).map_err(io::Error::other)?;
        Ok(Self { process })
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        File::options().write(true).open(format!("/proc/{}/{file}", self.process))?.write_all(text.as_bytes())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: it is a child that ends only by this signal, so the number is still its own. If a reaper in this
        // process is faster, waiting fails, which is fine.
        unsafe {
            libc::kill(self.process, libc::SIGKILL);
            libc::waitpid(self.process, std::ptr::null_mut(), 0);
        }
    }
}

/// `container:host:length[,...]` as the kernel reads it.
fn table(text: &str) -> Result<String> {
    let wrong = || Error::invalid_argument(format!("id mapping {text:?} is not container:host:length[,...]"));
    let mut lines = String::new();
    for entry in text.split(',') {
        let numbers: Vec<u32> =
            entry.split(':').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_>>()?;
        let [container, host, length] = numbers[..] else { return Err(wrong()) };
        if length == 0 {
            return Err(wrong());
        }
        lines.push_str(&format!("{container} {host} {length}\n"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use corten_types::ErrorKind;

    use super::table;

    #[test]
    fn mappings_are_written_as_the_kernel_reads_them() {
        assert_eq!(table("0:1000:10,10:5000:1").unwrap(), "0 1000 10\n10 5000 1\n");
    }

    #[test]
    fn malformed_mappings_are_refused() {
        for text in ["", "0:1", "0:1:2:3", "a:b:c", "0:0:0", "0:0:4294967296"] {
            assert_eq!(table(text).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }
}
