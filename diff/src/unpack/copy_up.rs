//! Hard links to files of the layers below: the file is copied into the upper folder first, as overlayfs does it when
//! somebody makes such a link.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid},
    io::Errno,
};

use super::{
    UnpackError, Unpacker, Whiteouts,
    attributes::timestamps,
    create::CREATE_FILE,
    error::shown,
    name::{Name, components},
    parents::{hides, time_of_access, time_of_modification},
    root::Directory,
    sink::{Checksum, Placed},
    whiteout::opaque_name,
};

/// How much is copied at once.
const COPY_BYTES: usize = 128 * 1024;

impl Unpacker<'_> {
    /// The directory in which the target of a hard link is. Links are followed on the way, below the root; the last
    /// component may be a link itself (row B08). Nothing if the target does not exist.
    pub(crate) fn find_link_target(
        &mut self,
        parent: &[u8],
        base: &[u8],
    ) -> Result<Option<Rc<Directory>>, UnpackError> {
        let failed = |errno| UnpackError::system("open the directory", parent)(errno);
        let found = match self.root.existing_directory(parent) {
            Ok(directory) => match fs::statat(&*directory, base, AtFlags::SYMLINK_NOFOLLOW) {
                // A whiteout is no file.
                Ok(stat) if self.whiteouts != Whiteouts::Remove && is_whiteout(&stat) => return Ok(None),
                Ok(_) => return Ok(Some(directory)),
                Err(Errno::NOENT) => Some(directory),
                Err(errno) => return Err(failed(errno)),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(errno) => return Err(failed(errno)),
        };
        let Some(opaque) = opaque_name(self.whiteouts).filter(|_| !self.lower_layers.is_empty()) else {
            return Ok(None);
        };
        let mut parts: Vec<&[u8]> = match &found {
            Some(directory) => components(&directory.path).collect(),
            // With dots, what is meant depends on links that are not there.
            None if components(parent).any(|part| part == b"..") => return Ok(None),
            None => components(parent).collect(),
        };
        parts.push(base);
        let path = parts.join(&b'/');
        let cannot = || UnpackError::system("look for the target of a hard link at", &path);
        if hides(&self.root, &path, opaque).map_err(cannot())? {
            return Ok(None);
        }
        let Some((file, stat)) = self.lower_layers.find_shown(&path, opaque).map_err(cannot())? else {
            return Ok(None);
        };
        self.copy_up(&path, &file, &stat).map(Some)
    }

    fn copy_up(&mut self, path: &[u8], from: &OwnedFd, stat: &Stat) -> Result<Rc<Directory>, UnpackError> {
        let name = Name::clean(path).expect("it has a last component");
        let place = self.place(name)?;
        let failed = || UnpackError::system("copy up", path);
        let base = place.base.as_slice();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
                self.count(size_bytes)?;
                let mode = Mode::RUSR | Mode::WUSR;
                let to = fs::openat(&*place.parent, base, CREATE_FILE, mode).map_err(failed())?;
                let to = File::from(to);
                let crc32c = copy_contents(from, &to, size_bytes).map_err(|source| UnpackError::System {
                    doing: "copy up",
                    path: shown(path),
                    source,
                })?;
                self.write_back.add(size_bytes);
                self.copy_attributes_up(from, &to, stat).map_err(failed())?;
                self.told.put(path, Placed::File { size_bytes, crc32c });
            }
            FileType::Symlink => {
                let target = fs::readlinkat(from, c"", Vec::new()).map_err(failed())?;
                fs::symlinkat(target.as_c_str(), &*place.parent, base).map_err(failed())?;
                let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                fs::chownat(&*place.parent, base, Some(owner), Some(group), flags).map_err(failed())?;
                let times = timestamps(time_of_access(stat), time_of_modification(stat));
                fs::utimensat(&*place.parent, base, &times, flags).map_err(failed())?;
                self.told.put(path, Placed::Symlink { target: target.to_bytes() });
            }
            _ => {
                let reason = "it is the target of a hard link, and neither a file nor a symbolic link";
                return Err(UnpackError::refused(path, reason));
            }
        }
        self.layer.add(&place.path);
        Ok(place.parent)
    }

    fn copy_attributes_up(&self, from: &OwnedFd, to: &File, stat: &Stat) -> Result<(), Errno> {
        fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        let readable = reopen(from)?;
        self.lower_layers.copy_xattrs(&readable, to)?;
        fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        fs::futimens(to, &timestamps(time_of_access(stat), time_of_modification(stat)))
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Opens for reading what is open as a place only.
fn reopen(descriptor: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Copies the data of a file and leaves its holes; gives the checksum of it all.
fn copy_contents(from: &OwnedFd, to: &File, size_bytes: u64) -> io::Result<u32> {
    let mut from = File::from(reopen(from)?);
    let mut to = to;
    let mut checksum = Checksum::default();
    let mut buffer = vec![0; COPY_BYTES];
    let mut position = 0;
    while position < size_bytes {
        let start = match fs::seek(&from, fs::SeekFrom::Data(position)) {
            Ok(start) => start.min(size_bytes),
            Err(Errno::NXIO) => size_bytes,
            Err(errno) => return Err(errno.into()),
        };
        checksum.add_hole(start - position);
        position = start;
        if position == size_bytes {
            break;
        }
        let end = fs::seek(&from, fs::SeekFrom::Hole(position))?.min(size_bytes);
        from.seek(SeekFrom::Start(position))?;
        to.seek(SeekFrom::Start(position))?;
        while position < end {
            let wanted = usize::try_from(end - position).map_or(COPY_BYTES, |rest| rest.min(COPY_BYTES));
            let count = from.read(&mut buffer[..wanted])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(&buffer[..count])?;
            checksum.add(&buffer[..count]);
            position += count as u64;
        }
    }
    fs::ftruncate(to, size_bytes)?;
    Ok(checksum.value())
}
