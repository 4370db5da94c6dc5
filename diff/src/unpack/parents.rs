//! Where directories that a layer does not mention get their attributes from: the layers below (row B02).

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{self, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags},
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
        Ok(Some((time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec))))
    }

    /// Whether the layers below have a directory at `path`, not by way of links: only then is a directory above them
    /// merged with theirs, and shows something of it. If the layers are not known, they may.
    pub(crate) fn may_show(&mut self, path: &[u8]) -> Result<bool, Errno> {
        Ok(self.layers.is_empty() || self.find(path, ResolveFlags::NO_SYMLINKS)?.is_some())
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

    fn copy_xattrs(&self, from: &OwnedFd, to: &Directory) -> Result<(), Errno> {
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

fn owns(made: impl AsFd, owner: Uid, group: Gid) -> bool {
    fs::fstat(made).is_ok_and(|stat| stat.st_uid == owner.as_raw() && stat.st_gid == group.as_raw())
}

fn time(seconds: impl Into<i64>, nanoseconds: impl TryInto<u32>) -> Time {
    Time { seconds: seconds.into(), nanoseconds: nanoseconds.try_into().unwrap_or(0) }
}
