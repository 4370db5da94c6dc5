//! Owner, extended attributes, mode and times, in the order in which they do not undo each other (rows B11 to B14).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{Place, UnpackError, Unpacker};
use crate::archive::{Entry, Time};

/// What was created, as the calls that change attributes want it.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>, FileType),
    /// Something that is not opened, because that would follow it or have effects: links, devices, pipes.
    Name(&'a Place, FileType),
}

/// What need not be set, because it was made so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) owner: bool,
    pub(crate) mode: bool,
}

/// How attributes are set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setter {
    pub(crate) same_owner: bool,
    /// `user.overlay.*` belongs to the overlay.
    pub(crate) is_of_user_overlay: bool,
    pub(crate) is_in_user_namespace: bool,
}

impl Setter {
    /// Sets everything but times, and says how many extended attributes were left out. The owner goes first: changing it
    /// clears set-id bits and capabilities.
    pub(crate) fn set_attributes(
        self,
        entry: &Entry,
        path: &[u8],
        target: Target<'_>,
        done: Done,
    ) -> Result<u64, UnpackError> {
        if self.same_owner && !done.owner {
            self.set_owner(entry, path, target)?;
        }
        let mut skipped = 0;
        for (name, value) in &entry.xattrs {
            skipped += u64::from(!self.set_xattr(name, value, path, target)?);
        }
        if done.mode {
            return Ok(skipped);
        }
        let mode = Mode::from_raw_mode(entry.mode);
        let outcome = match target {
            Target::Open(descriptor, _) => fs::fchmod(descriptor, mode),
            Target::Name(_, FileType::Symlink) => Ok(()),
            Target::Name(place, _) => set_mode_of_name(place, mode),
        };
        outcome.map_err(UnpackError::system("set the mode of", path))?;
        Ok(skipped)
    }

    fn set_owner(self, entry: &Entry, path: &[u8], target: Target<'_>) -> Result<(), UnpackError> {
        // The largest number means "leave it as it is" to the kernel, and larger ones would be cut to small ones.
        let raw = |id: i64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(owner), Some(group)) = (raw(entry.uid), raw(entry.gid)) else {
            return Err(UnpackError::refused(path, "its owner or group is not between 0 and 2^32-2"));
        };
        let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
        let outcome = match target {
            Target::Open(descriptor, _) => fs::fchown(descriptor, owner, group),
            Target::Name(place, _) => {
                fs::chownat(&*place.parent, place.base.as_slice(), owner, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        match outcome {
            Err(Errno::INVAL) if self.is_in_user_namespace => Err(UnpackError::refused(
                path,
                "its owner or group is not mapped into this user namespace; /etc/subuid and /etc/subgid may need \
                 larger ranges",
            )),
            outcome => outcome.map_err(UnpackError::system("set the owner of", path)),
        }
    }

    /// Says whether it was set.
    fn set_xattr(
        self,
        name: &[u8],
        value: &[u8],
        path: &[u8],
        target: Target<'_>,
    ) -> Result<bool, UnpackError> {
        // They steer the overlay, or belong to whoever runs this machine: not for an archive to set (row B12).
        if name.starts_with(b"trusted.") || self.is_of_user_overlay && name.starts_with(b"user.overlay.") {
            return Ok(false);
        }
        let (outcome, kind) = match target {
            Target::Open(descriptor, kind) => {
                (fs::fsetxattr(descriptor, name, value, XattrFlags::empty()), kind)
            }
            Target::Name(place, kind) => {
                (fs::lsetxattr(path_of_name(place), name, value, XattrFlags::empty()), kind)
            }
        };
        let holds_user_xattrs = matches!(kind, FileType::RegularFile | FileType::Directory);
        match outcome {
            Err(Errno::NOTSUP) => Ok(false),
            Err(Errno::PERM) if name.starts_with(b"user.") && !holds_user_xattrs => Ok(false),
            outcome => {
                outcome.map_err(UnpackError::system("set an extended attribute of", path)).map(|()| true)
            }
        }
    }
}

impl Unpacker<'_> {
    /// Sets everything but times.
    pub(crate) fn set_attributes(
        &mut self,
        entry: &Entry,
        path: &[u8],
        target: Target<'_>,
    ) -> Result<(), UnpackError> {
        let skipped = self.setter.set_attributes(entry, path, target, Done::default())?;
        self.unpacked.skipped_xattrs += skipped;
        Ok(())
    }

    /// Sets the owner of a whiteout.
    pub(crate) fn set_owner_of_name(&self, entry: &Entry, place: &Place) -> Result<(), UnpackError> {
        if !self.setter.same_owner {
            return Ok(());
        }
        self.setter.set_owner(entry, &place.path, Target::Name(place, FileType::CharacterDevice))
    }
}

pub(crate) fn set_times(entry: &Entry, path: &[u8], target: Target<'_>) -> Result<(), UnpackError> {
    let (accessed, modified) = times_of(entry);
    let times = timestamps(accessed, modified);
    let outcome = match target {
        Target::Open(descriptor, _) => fs::futimens(descriptor, &times),
        Target::Name(place, _) => {
            fs::utimensat(&*place.parent, place.base.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW)
        }
    };
    outcome.map_err(UnpackError::system("set the times of", path))
}

/// The times that are written: the last access is never before the modification (row B14).
pub(crate) fn times_of(entry: &Entry) -> (Time, Time) {
    let accessed = entry.accessed.map_or(entry.modified, |accessed| accessed.max(entry.modified));
    (accessed.bounded(), entry.modified.bounded())
}

pub(crate) fn timestamps(accessed: Time, modified: Time) -> Timestamps {
    let timespec = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) }
}

/// Changes the mode of exactly the file that has the name now, even if the name is exchanged meanwhile.
fn set_mode_of_name(place: &Place, mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = fs::openat(&*place.parent, place.base.as_slice(), flags, Mode::empty())?;
    if FileType::from_raw_mode(fs::fstat(&descriptor)?.st_mode) == FileType::Symlink {
        return Ok(());
    }
    fs::chmod(format!("/proc/self/fd/{}", descriptor.as_raw_fd()), mode)
}

/// A path for calls that only take paths: the parent by its descriptor, and a name that the call does not follow.
fn path_of_name(place: &Place) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", place.parent.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(&place.base);
    path
}
