//! Finding directories below the target, whatever links the layer has made there.
//!
//! Everything starts at the root's descriptor and is resolved by the kernel with `openat2`, which cannot be tricked
//! into leaving it, not even by somebody who swaps directories for links meanwhile. The last component of an entry is
//! never resolved at all: it is created, removed and changed by calls that do not follow links.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use rustix::{
    fs::{self, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{
    UnpackError,
    name::{components, join},
};

/// How many directories stay open. More are opened again when they are needed.
pub(crate) const MAX_OPEN_DIRECTORIES: usize = 128;

/// Directories with longer names are not kept open: what is remembered must not grow with what an archive says.
const MAX_REMEMBERED_BYTES: usize = 8 * 1024;

/// How long the path of a directory may be, links resolved.
const MAX_PATH_BYTES: usize = 16 * 1024;

/// How many links one name may lead through, as containerd counts.
const MAX_LINKS: usize = 255;

/// How often the kernel may say that something moved while it looked.
const MAX_RETRIES: usize = 128;

/// A directory below the root: open, and with its one path that has no links in it.
#[derive(Debug)]
pub(crate) struct Directory {
    descriptor: OwnedFd,
    pub(crate) path: Vec<u8>,
    /// The owner and group that files get which are made in it, once that was seen: its set-group-id bit and the mount's
    /// options decide.
    new_owner: Cell<Option<(u32, u32)>>,
    /// Whether files that are made in it get the mode that was asked for, as far as it decides.
    keeps_modes: Cell<Option<bool>>,
}

impl Directory {
    pub(crate) fn new(descriptor: OwnedFd, path: Vec<u8>) -> Self {
        Self { descriptor, path, new_owner: Cell::new(None), keeps_modes: Cell::new(None) }
    }

    /// The owner and group of files that are made in it, of which `made` is one.
    pub(crate) fn new_owner(&self, made: impl AsFd) -> Result<(u32, u32), Errno> {
        if let Some(owner) = self.new_owner.get() {
            return Ok(owner);
        }
        let stat = fs::fstat(made)?;
        self.new_owner.set(Some((stat.st_uid, stat.st_gid)));
        Ok((stat.st_uid, stat.st_gid))
    }

    /// Whether files that are made in it get the mode that was asked for: it has no access control list for them.
    pub(crate) fn keeps_modes(&self) -> bool {
        if let Some(known) = self.keeps_modes.get() {
            return known;
        }
        let path = format!("/proc/self/fd/{}", self.descriptor.as_raw_fd());
        let list = fs::getxattr(path, c"system.posix_acl_default", &mut [0; 1][..]);
        let keeps = matches!(list, Err(Errno::NODATA | Errno::NOTSUP));
        self.keeps_modes.set(Some(keeps));
        keeps
    }

    /// Opens it for listing and for changing its own attributes.
    pub(crate) fn open_self(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(&self.descriptor, c".", flags, Mode::empty())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The target, with the directories that were used lately.
pub(crate) struct Root {
    descriptor: OwnedFd,
    /// By the name that the archive uses.
    open: HashMap<Vec<u8>, Rc<Directory>>,
    /// How many components were looked at one by one.
    #[cfg(test)]
    pub(crate) steps: u64,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            descriptor: fs::open(path, flags, Mode::empty())?,
            open: HashMap::new(),
            #[cfg(test)]
            steps: 0,
        })
    }

    /// Opens what is at `path`, in which nothing may be a link; a link at its end is opened itself if `flags` say so.
    pub(crate) fn open_exact(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        resolve_in(&self.descriptor, path, flags, resolve)
    }

    /// The directory that `literal` names, following links below the root. What is missing on the way is made, also
    /// where a link points to nothing, and handed to `made`, the outermost first.
    pub(crate) fn directory(
        &mut self,
        literal: &[u8],
        mut made: impl FnMut(&Directory) -> Result<(), UnpackError>,
    ) -> Result<Rc<Directory>, UnpackError> {
        if let Some(found) = self.open.get(literal) {
            return Ok(Rc::clone(found));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match self.open_exact(literal, flags) {
            Ok(descriptor) => Directory::new(descriptor, literal.to_vec()),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.walk(literal, &mut made)?,
            Err(errno) => return Err(UnpackError::system("open the directory", literal)(errno)),
        };
        Ok(self.remember(literal.to_vec(), directory))
    }

    /// The directory that `literal` names if it exists. Dots are taken by their meaning, not as text.
    pub(crate) fn existing_directory(&mut self, literal: &[u8]) -> Result<Rc<Directory>, Errno> {
        let has_dots = components(literal).any(|part| part == b"..");
        let clean = components(literal).collect::<Vec<_>>().join(&b'/');
        if let Some(found) = self.open.get(&clean).filter(|_| !has_dots) {
            return Ok(Rc::clone(found));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if !has_dots {
            match self.open_exact(&clean, flags) {
                Ok(descriptor) => return Ok(Rc::new(Directory::new(descriptor, clean))),
                Err(Errno::LOOP | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let descriptor = resolve_in(&self.descriptor, &clean, flags, resolve)?;
        let path = self.path_of(&descriptor)?;
        Ok(Rc::new(Directory::new(descriptor, path)))
    }

    /// The path without links of an open directory below the root, as the kernel tells it.
    fn path_of(&self, descriptor: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let told = |descriptor: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
            fs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes)
        };
        let (root, path) = (told(&self.descriptor)?, told(descriptor)?);
        let below = path.strip_prefix(root.as_slice()).ok_or(Errno::STALE)?;
        Ok(components(below).collect::<Vec<_>>().join(&b'/'))
    }

    /// Keeps an open directory for the entries that follow.
    pub(crate) fn remember(&mut self, literal: Vec<u8>, directory: Directory) -> Rc<Directory> {
        if self.open.len() >= MAX_OPEN_DIRECTORIES {
            self.open.clear();
        }
        let is_long = literal.len() + directory.path.len() > MAX_REMEMBERED_BYTES;
        let directory = Rc::new(directory);
        if is_long {
            self.open.remove(&literal);
            return directory;
        }
        self.open.insert(literal, Rc::clone(&directory));
        directory
    }

    /// Forgets what was learned of files that are made in open directories: one of them was changed.
    pub(crate) fn relearn(&self) {
        for directory in self.open.values() {
            directory.new_owner.set(None);
            directory.keeps_modes.set(None);
        }
    }

    /// Forgets every open directory: something that may lie on the way to them was replaced.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }

    /// Resolves component by component. Each step opens one name without following it, so that links are ours to
    /// interpret; the time is linear in the components, not in their square.
    fn walk(
        &mut self,
        literal: &[u8],
        made: &mut dyn FnMut(&Directory) -> Result<(), UnpackError>,
    ) -> Result<Directory, UnpackError> {
        let failed = |errno| UnpackError::system("open the directory", literal)(errno);
        let mut queue: VecDeque<Vec<u8>> = components(literal).map(<[u8]>::to_vec).collect();
        let mut place = Place { path: Vec::new(), current: None };
        let mut links = 0;
        while let Some(part) = queue.pop_front() {
            #[cfg(test)]
            {
                self.steps += 1;
            }
            if part == b".." {
                place.leave();
                continue;
            }
            if place.path.len() + part.len() > MAX_PATH_BYTES {
                return Err(failed(Errno::NAMETOOLONG));
            }
            let here = place.descriptor(self).map_err(failed)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = match fs::openat(here, part.as_slice(), flags, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    place.make(&part, self, made)?;
                    continue;
                }
                Err(errno) => return Err(failed(errno)),
            };
            match FileType::from_raw_mode(fs::fstat(&next).map_err(failed)?.st_mode) {
                FileType::Directory => place.enter(&part, next),
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed(Errno::LOOP));
                    }
                    let target = fs::readlinkat(&next, c"", Vec::new()).map_err(failed)?.into_bytes();
                    if target.starts_with(b"/") {
                        place = Place { path: Vec::new(), current: None };
                    }
                    for part in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        queue.push_front(part.to_vec());
                    }
                }
                _ => return Err(failed(Errno::NOTDIR)),
            }
        }
        let descriptor = match place.current {
            Some(descriptor) => descriptor,
            None => self
                .open_exact(&place.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
                .map_err(failed)?,
        };
        Ok(Directory::new(descriptor, place.path))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Where a walk stands.
struct Place {
    path: Vec<u8>,
    /// Open, unless the walk has just gone up or back to the root.
    current: Option<OwnedFd>,
}

impl Place {
    fn descriptor<'a>(&'a mut self, root: &'a Root) -> Result<BorrowedFd<'a>, Errno> {
        if self.path.is_empty() {
            return Ok(root.as_fd());
        }
        if self.current.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.current = Some(root.open_exact(&self.path, flags)?);
        }
        Ok(self.current.as_ref().expect("it was just opened").as_fd())
    }

    fn enter(&mut self, part: &[u8], descriptor: OwnedFd) {
        self.path = join(&self.path, part);
        self.current = Some(descriptor);
    }

    fn leave(&mut self) {
        let cut = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.path.truncate(cut);
        self.current = None;
    }

    /// Makes a directory that is missing and enters it (row B02).
    fn make(
        &mut self,
        part: &[u8],
        root: &Root,
        made: &mut dyn FnMut(&Directory) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let path = join(&self.path, part);
        let shown = path.clone();
        let failed = |errno| UnpackError::system("make the directory", &shown)(errno);
        let here = self.descriptor(root).map_err(failed)?;
        match fs::mkdirat(here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = fs::openat(here, part, flags, Mode::empty()).map_err(failed)?;
        // Neither the umask nor a set-group-id bit of the directory above decides.
        fs::fchmod(&descriptor, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let directory = Directory::new(descriptor, path);
        made(&directory)?;
        self.path = directory.path;
        self.current = Some(directory.descriptor);
        Ok(())
    }
}

/// `openat2`, repeated while the kernel says that something moved under it.
pub(crate) fn resolve_in(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    for _ in 0..MAX_RETRIES {
        match fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN)
}
