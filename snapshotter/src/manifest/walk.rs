//! A walk over a tree in the order of a manifest, with one open folder and without following anything.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// How folders are opened: never by way of a link.
pub(crate) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A walk. After [`Walk::advance`] the current entry is [`Walk::path`]; a folder is passed over unless
/// [`Walk::enter`] is called.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The folder that the current entry is in.
    folder: OwnedFd,
    levels: Vec<Level>,
    /// With zero bytes for slashes.
    path: Vec<u8>,
    /// Where in the path the name begins.
    name_start: usize,
}

#[derive(Debug)]
struct Level {
    names: Names,
    next: usize,
    path_bytes: usize,
    identity: (u64, u64),
}

/// The names in a folder, sorted: 4 bytes each and themselves.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Walk {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        // The root itself may be reached through links.
        let flags = FOLDER.difference(OFlags::NOFOLLOW);
        let folder = rustix::fs::open(root, flags, Mode::empty())?;
        let level = Level::read(&folder, 0)?;
        Ok(Self { folder, levels: vec![level], path: Vec::new(), name_start: 0 })
    }

    /// The path of the current entry, with zero bytes for slashes.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Goes to the next entry and looks at it; `None` after the last one. What vanishes is passed over.
    pub(crate) fn advance(&mut self) -> io::Result<Option<Stat>> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_bytes);
            let Some(name) = level.names.get(level.next) else {
                self.levels.pop();
                self.ascend()?;
                continue;
            };
            level.next += 1;
            if !self.path.is_empty() {
                self.path.push(0);
            }
            self.name_start = self.path.len();
            self.path.extend_from_slice(name);
            match rustix::fs::statat(&self.folder, self.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
                Ok(found) => return Ok(Some(found)),
            }
        }
        Ok(None)
    }

    /// Goes into the folder that is the current entry.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let folder = rustix::fs::openat(&self.folder, self.name(), FOLDER, Mode::empty())?;
        let level = Level::read(&folder, self.path.len())?;
        self.levels.push(level);
        self.folder = folder;
        Ok(())
    }

    /// Opens the file that is the current entry.
    pub(crate) fn open_file(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, self.name(), flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => Ok(rustix::fs::openat(&self.folder, self.name(), flags, Mode::empty())?),
            other => Ok(other?),
        }
    }

    /// The target of the symbolic link that is the current entry.
    pub(crate) fn link_target(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.folder, self.name(), Vec::new())?.into_bytes())
    }

    fn name(&self) -> &[u8] {
        &self.path[self.name_start..]
    }

    /// Opens the folder above, which has to be the one that was left.
    fn ascend(&mut self) -> io::Result<()> {
        let Some(above) = self.levels.last() else { return Ok(()) };
        let folder = rustix::fs::openat(&self.folder, "..", FOLDER, Mode::empty())?;
        if identity(&folder)? != above.identity {
            return Err(io::Error::other("a folder was moved while it was looked at"));
        }
        self.folder = folder;
        Ok(())
    }
}

impl Level {
    fn read(folder: &OwnedFd, path_bytes: usize) -> io::Result<Self> {
        let names = Names::read(folder)?;
        Ok(Self { names, next: 0, path_bytes, identity: identity(folder)? })
    }
}

impl Names {
    fn read(folder: &OwnedFd) -> io::Result<Self> {
        let mut names = Self::default();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let start = u32::try_from(names.bytes.len())
                .map_err(|_| io::Error::other("a folder with more than 4 GiB of names"))?;
            names.starts.push(start);
            names.bytes.extend_from_slice(name);
            names.bytes.push(0);
        }
        let bytes = &names.bytes;
        names.starts.sort_unstable_by(|left, right| name_at(bytes, *left).cmp(name_at(bytes, *right)));
        Ok(names)
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        self.starts.get(index).map(|start| name_at(&self.bytes, *start))
    }
}

/// Whether it is a folder.
pub(crate) fn is_folder(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    let rest = &bytes[start as usize..];
    &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
}

/// What tells a folder from every other.
pub(crate) fn identity(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let found = rustix::fs::fstat(folder)?;
    Ok((found.st_dev, found.st_ino))
}
