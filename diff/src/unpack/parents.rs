//! Where directories that a layer does not mention get their attributes from: the layers below (row B02).

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags},
    io::Errno,
};

use super::{Directory, UnpackError, root::resolve_in};
use crate::archive::Time;

/// The most that the kernel gives for a list of names, and for one value.
const MAX_XATTR_BYTES: usize = 64 * 1024;

/// The layers below the target, the nearest first.
pub(crate) struct LowerLayers {
    layers: Vec<(PathBuf, Option<OwnedFd>)>,
    /// Attributes with such names belong to the overlay, not to the file.
    private_prefix: Option<&'static [u8]>,
}

impl LowerLayers {
    pub(crate) fn new(paths: &[PathBuf], private_prefix: Option<&'static [u8]>) -> Self {
        Self { layers: paths.iter().map(|path| (path.clone(), None)).collect(), private_prefix }
    }

    /// Gives `made` the owner, mode and attributes that it has in the first layer below that has it. Its times are
    /// returned: they are set when nothing more is put into it.
    pub(crate) fn copy_attributes(&mut self, made: &Directory) -> Result<Option<(Time, Time)>, UnpackError> {
        let failed = |errno| UnpackError::system("copy the attributes of", &made.path)(errno);
        let Some(lower) = self.find(&made.path, ResolveFlags::empty()).map_err(failed)? else {
            return Ok(None);
        };
        let stat = fs::fstat(&lower).map_err(failed)?;
        let owner = Uid::from_raw(stat.st_uid);
        let group = Gid::from_raw(stat.st_gid);
        match fs::fchown(made, Some(owner), Some(group)) {
            // Some filesystems refuse even what would change nothing.
            Err(Errno::PERM) if owns(made, owner, group) => {}
            outcome => outcome.map_err(failed)?,
        }
        self.copy_xattrs(&lower, made).map_err(failed)?;
        fs::fchmod(made, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(failed)?;
        Ok(Some((time_of_access(&stat), time_of_modification(&stat))))
    }

    /// Gives `made`, whose own entry has set everything else, the attributes that it has below and not yet itself.
    pub(crate) fn copy_missing_xattrs(&mut self, made: &Directory) -> Result<(), UnpackError> {
        let failed = |errno| UnpackError::system("copy the attributes of", &made.path)(errno);
        match self.find(&made.path, ResolveFlags::empty()).map_err(failed)? {
            Some(lower) => self.copy_xattrs(&lower, made).map_err(failed),
            None => Ok(()),
        }
    }

    /// Whether the layers below have a directory at `path`, not by way of links: only then is a directory above them
    /// merged with theirs, and shows something of it. If the layers are not known, they may.
    pub(crate) fn may_show(&mut self, path: &[u8]) -> Result<bool, Errno> {
        Ok(self.layers.is_empty() || self.find(path, ResolveFlags::NO_SYMLINKS)?.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// What the layers below show at `path`, not by way of links: open, so that it stays the same. `opaque` is the name
    /// of the attribute of directories that hide what is below them.
    pub(crate) fn find_shown(
        &mut self,
        path: &[u8],
        opaque: &std::ffi::CStr,
    ) -> Result<Option<(OwnedFd, Stat)>, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for (layer, descriptor) in &mut self.layers {
            if descriptor.is_none() {
                *descriptor = Some(fs::open(layer.as_path(), flags, Mode::empty())?);
            }
            let layer = descriptor.as_ref().expect("it was just opened");
            let node = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match resolve_in(layer, path, node, resolve) {
                Ok(found) => {
                    let stat = fs::fstat(&found)?;
                    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
                    let is_whiteout = is_device && stat.st_rdev == 0;
                    return Ok((!is_whiteout).then_some((found, stat)));
                }
                Err(Errno::NOENT) if !hides(layer, path, opaque)? => {}
                // A whiteout, a link or a file on the way: it hides the layers further down.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    fn find(&mut self, path: &[u8], resolve: ResolveFlags) -> Result<Option<OwnedFd>, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | resolve;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for (layer, descriptor) in &mut self.layers {
            if descriptor.is_none() {
                *descriptor = Some(fs::open(layer.as_path(), flags, Mode::empty())?);
            }
            let layer = descriptor.as_ref().expect("it was just opened");
            match resolve_in(layer, path, flags, resolve) {
                Ok(found) => return Ok(Some(found)),
                Err(Errno::NOENT) => {}
                // A whiteout or a file on the way: it hides the layers further down.
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    pub(crate) fn copy_xattrs(&self, from: &OwnedFd, to: impl AsFd + Copy) -> Result<(), Errno> {
        let mut names = vec![0; MAX_XATTR_BYTES];
        let length = match fs::flistxattr(from, names.as_mut_slice()) {
            Err(Errno::NOTSUP | Errno::NODATA) => return Ok(()),
            outcome => outcome?,
        };
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let is_private = self.private_prefix.is_some_and(|prefix| name.starts_with(prefix));
            if name.starts_with(b"trusted.") || is_private {
                continue;
            }
            let mut value = vec![0; MAX_XATTR_BYTES];
            let length = match fs::fgetxattr(from, name, value.as_mut_slice()) {
                Err(Errno::NOTSUP | Errno::NODATA) => continue,
                outcome => outcome?,
            };
            match fs::fsetxattr(to, name, &value[..length], XattrFlags::CREATE) {
                Ok(()) | Err(Errno::NOTSUP | Errno::NODATA | Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Whether a directory on the way to `path` in `layer` hides what the layers below have there, or something else than a
/// directory is in the way.
pub(crate) fn hides(layer: impl AsFd, path: &[u8], opaque: &std::ffi::CStr) -> Result<bool, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
    for end in ends {
        let directory = match resolve_in(layer.as_fd(), &path[..end], flags, resolve) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            Err(errno) => return Err(errno),
        };
        match fs::fgetxattr(&directory, opaque, &mut [0; 1][..]) {
            Ok(_) => return Ok(true),
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    // The last component itself may be a whiteout, which the caller has looked for.
    match fs::statat(layer, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) | Err(Errno::NOTDIR) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn owns(made: impl AsFd, owner: Uid, group: Gid) -> bool {
    fs::fstat(made).is_ok_and(|stat| stat.st_uid == owner.as_raw() && stat.st_gid == group.as_raw())
}

pub(crate) fn time_of_access(stat: &Stat) -> Time {
    time(stat.st_atime, stat.st_atime_nsec)
}

pub(crate) fn time_of_modification(stat: &Stat) -> Time {
    time(stat.st_mtime, stat.st_mtime_nsec)
}

fn time(seconds: impl Into<i64>, nanoseconds: impl TryInto<u32>) -> Time {
    Time { seconds: seconds.into(), nanoseconds: nanoseconds.try_into().unwrap_or(0) }
}
