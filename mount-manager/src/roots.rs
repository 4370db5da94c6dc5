//! The folders in which folders and images may be made (R10): nothing leads out of them.

use std::{
    ffi::OsStr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use corten_types::{Error, Result};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// The kernel gives up with EAGAIN when a rename races with the lookup.
const RACES_TOLERATED: usize = 32;

/// Folders that are allowed, each with the descriptor that lookups start from.
#[derive(Debug)]
pub(crate) struct Roots {
    roots: Vec<(PathBuf, OwnedFd)>,
}

/// A name in a folder that is held open.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: OwnedFd,
    pub(crate) name: &'a OsStr,
}

impl Place<'_> {
    /// A path that also other processes can use, while `self` lives.
    pub(crate) fn path(&self) -> PathBuf {
        let folder = format!("/proc/{}/fd/{}", std::process::id(), self.folder.as_raw_fd());
        Path::new(&folder).join(self.name)
    }
}

impl Roots {
    /// # Errors
    /// By class of the system's error, if one of the folders cannot be opened.
    pub(crate) fn open(folders: Vec<PathBuf>) -> Result<Self> {
        let open = |folder: PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&folder, flags, Mode::empty())
                .map_err(|error| Error::io(format!("cannot open {}", folder.display()), error.into()))?;
            Ok((folder, opened))
        };
        Ok(Self { roots: folders.into_iter().map(open).collect::<Result<_>>()? })
    }

    /// Finds the folder that `path` is in, without leaving the root that `path` begins with.
    ///
    /// # Errors
    /// - `PermissionDenied`: it is in none of the roots, or a link leads out of one.
    /// - `NotFound`: the folder does not exist.
    pub(crate) fn place<'a>(&self, path: &'a str, what: &str) -> Result<Place<'a>> {
        let path = Path::new(path);
        let within = |(root, opened)| path.strip_prefix(root).ok().map(|rest| (rest, opened));
        let found = self.roots.iter().map(|(root, opened)| (root, opened)).find_map(within);
        let (rest, root) = found.ok_or_else(|| self.refused(path, what))?;
        let Some(Component::Normal(name)) = rest.components().next_back() else {
            return Err(self.refused(path, what));
        };
        let folder = rest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES_TOLERATED {
            match rustix::fs::openat2(root, folder, flags, Mode::empty(), rules) {
                Ok(folder) => return Ok(Place { folder, name }),
                Err(Errno::AGAIN) => {}
                Err(Errno::XDEV) => return Err(self.refused(path, what)),
                Err(error) => {
                    let message = format!("{what}: cannot open the folder of {}", path.display());
                    return Err(Error::io(message, error.into()));
                }
            }
        }
        Err(Error::unavailable(format!("{what}: {} is being renamed all the time", path.display())))
    }

    fn refused(&self, path: &Path, what: &str) -> Error {
        let roots: Vec<String> = self.roots.iter().map(|(root, _)| root.display().to_string()).collect();
        let roots = roots.join(" or ");
        Error::new(
            corten_types::ErrorKind::PermissionDenied,
            format!("{what}: {} is not in {roots}, where this is allowed", path.display()),
        )
    }
}
