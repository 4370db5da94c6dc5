//! What makes one tree another: both are walked side by side, in the order of their names (row W01).

use std::{
    cmp::Ordering,
    collections::HashMap,
    io::Read,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    vec,
};

use corten_types::{Error, Result};
use rustix::{
    fs::{self, AtFlags, Dir, FileType, OFlags, Stat},
    io::Errno,
};

use crate::unpack::{Root, join, shown};

/// The largest attribute that is read.
const MAX_XATTR_BYTES: usize = 64 * 1024;

/// How much of two files is compared at once.
const COMPARE_BYTES: usize = 64 * 1024;

/// A difference.
pub(crate) enum Change {
    /// It is not there any more, with everything below it.
    Removed,
    /// It is new, or different.
    Changed(Stat),
    /// It is the same, but has more than one name: another of them may have changed (row W05).
    SameLinked(Stat),
}

/// Two trees to compare.
pub(crate) struct Trees<'a> {
    /// Before; nothing if there was no tree.
    pub(crate) lower: Option<&'a Root>,
    /// After.
    pub(crate) upper: &'a Root,
    /// The folder of an overlay that holds all differences, where there is one: directories that are not in it are the
    /// same without looking.
    pub(crate) differences: Option<&'a Root>,
}

/// A directory whose children are being compared.
struct Frame {
    path: Vec<u8>,
    items: vec::IntoIter<Item>,
    /// Its children in the folder of differences are all that can differ.
    is_pruned: bool,
}

struct Item {
    name: Vec<u8>,
    lower: Option<Stat>,
    upper: Option<Stat>,
}

impl Trees<'_> {
    /// Hands every difference to `found`, a directory before what is in it.
    pub(crate) fn compare(&self, mut found: impl FnMut(&[u8], Change) -> Result<()>) -> Result<()> {
        let is_pruned = self.lower.is_some() && self.differences.is_some();
        let mut stack = vec![self.frame(Vec::new(), self.lower.is_some(), is_pruned)?];
        while let Some(frame) = stack.last_mut() {
            let Some(item) = frame.items.next() else {
                stack.pop();
                continue;
            };
            let path = join(&frame.path, &item.name);
            let is_pruned = frame.is_pruned;
            let (lower, upper) = match (item.lower, item.upper) {
                (Some(_), None) => {
                    found(&path, Change::Removed)?;
                    continue;
                }
                (lower, Some(upper)) => (lower, upper),
                (None, None) => continue,
            };
            let is_directory = kind(&upper) == FileType::Directory;
            match &lower {
                Some(lower) if self.is_same(&path, lower, &upper)? => {
                    if !is_directory && upper.st_nlink > 1 {
                        found(&path, Change::SameLinked(upper))?;
                    }
                }
                _ => found(&path, Change::Changed(upper))?,
            }
            if is_directory {
                let is_merged = lower.is_some_and(|lower| kind(&lower) == FileType::Directory);
                let is_pruned = is_pruned && is_merged && self.is_merged_in_overlay(&path)?;
                stack.push(self.frame(path, is_merged, is_pruned)?);
            }
        }
        Ok(())
    }

    /// Lists a directory; `is_merged`: both trees have it.
    fn frame(&self, path: Vec<u8>, is_merged: bool, is_pruned: bool) -> Result<Frame> {
        let lower = self.lower.filter(|_| is_merged);
        let items = match self.differences.filter(|_| is_pruned) {
            Some(differences) => self.changed_children(&path, lower, differences),
            None => self.all_children(&path, lower),
        };
        let items = items.map_err(|errno| failed("list", &path, errno))?;
        Ok(Frame { path, items: items.into_iter(), is_pruned })
    }

    fn all_children(&self, path: &[u8], lower: Option<&Root>) -> Result<Vec<Item>, Errno> {
        let mut upper = children(self.upper, path)?;
        upper.sort_by(|first, second| first.0.cmp(&second.0));
        let mut lower = lower.map_or(Ok(Vec::new()), |lower| children(lower, path))?;
        lower.sort_by(|first, second| first.0.cmp(&second.0));
        let (mut upper, mut lower) = (upper.into_iter().peekable(), lower.into_iter().peekable());
        let mut items = Vec::new();
        loop {
            let order = match (lower.peek(), upper.peek()) {
                (None, None) => return Ok(items),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(lower), Some(upper)) => lower.0.cmp(&upper.0),
            };
            let lower = if order == Ordering::Greater { None } else { lower.next() };
            let upper = if order == Ordering::Less { None } else { upper.next() };
            let name = upper.as_ref().or(lower.as_ref()).map(|child| child.0.clone()).unwrap_or_default();
            items.push(Item { name, lower: lower.map(|child| child.1), upper: upper.map(|child| child.1) });
        }
    }

    /// Only the children that the folder of differences has, whiteouts included.
    fn changed_children(
        &self,
        path: &[u8],
        lower: Option<&Root>,
        differences: &Root,
    ) -> Result<Vec<Item>, Errno> {
        let mut names = names(&directory(differences, path)?)?;
        names.sort();
        let upper = directory(self.upper, path)?;
        let lower = lower.map(|lower| directory(lower, path)).transpose()?;
        names
            .into_iter()
            .map(|name| {
                let lower = lower.as_ref().map_or(Ok(None), |lower| look(lower, &name))?;
                let upper = look(&upper, &name)?;
                Ok(Item { name, lower, upper })
            })
            .collect()
    }

    /// Whether a directory of the folder of differences adds to the one below it, instead of replacing it or showing
    /// another.
    fn is_merged_in_overlay(&self, path: &[u8]) -> Result<bool> {
        let Some(differences) = self.differences else { return Ok(false) };
        let failed = |errno| failed("look at", path, errno);
        let directory = directory(differences, path).map_err(failed)?;
        for name in [
            c"trusted.overlay.opaque",
            c"user.overlay.opaque",
            c"trusted.overlay.redirect",
            c"user.overlay.redirect",
        ] {
            let mut value = [0; MAX_XATTR_BYTES];
            match fs::fgetxattr(&directory, name, &mut value[..]) {
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Ok(_) => return Ok(false),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(true)
    }

    fn is_same(&self, path: &[u8], before: &Stat, after: &Stat) -> Result<bool> {
        if (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino) {
            return Ok(true);
        }
        let attributes = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        let Some(lower) = self.lower else { return Ok(false) };
        let is_directory = kind(after) == FileType::Directory;
        let content = |stat: &Stat| (stat.st_size, stat.st_mtime);
        // What costs least first.
        if attributes(before) != attributes(after)
            || !is_directory && content(before) != content(after)
            || capability(lower, path)? != capability(self.upper, path)?
        {
            return Ok(false);
        }
        if is_directory {
            return Ok(true);
        }
        if (before.st_mtime_nsec, after.st_mtime_nsec) != (0, 0) {
            return Ok(before.st_mtime_nsec == after.st_mtime_nsec);
        }
        // Times without nanoseconds were cut by an archive and prove nothing.
        match kind(after) {
            FileType::Symlink => Ok(read_link(lower, path)? == read_link(self.upper, path)?),
            FileType::RegularFile if after.st_size > 0 => {
                let failed = |error| Error::io(format!("cannot compare the files {}", shown(path)), error);
                same_contents(lower, self.upper, path).map_err(failed)
            }
            _ => Ok(true),
        }
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn failed(doing: &str, path: &[u8], errno: Errno) -> Error {
    Error::io(format!("cannot {doing} {}", shown(path)), errno.into())
}

/// What a symbolic link points to.
pub(crate) fn read_link(root: &Root, path: &[u8]) -> Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = root.open_exact(path, flags).and_then(|link| fs::readlinkat(link, c"", Vec::new()));
    target.map(std::ffi::CString::into_bytes).map_err(|errno| failed("read the link", path, errno))
}

/// The attribute `security.capability`, the only one that layers carry (row W06).
pub(crate) fn capability(root: &Root, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let (parent, base) = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or((&b""[..], path), |slash| (&path[..slash], &path[slash + 1..]));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = root.open_exact(parent, flags);
    let parent = parent.map_err(|errno| failed("read the capabilities of", path, errno))?;
    capability_of(parent.as_fd(), base, path)
}

/// The same of `base` in an open directory; `path` is for messages.
pub(crate) fn capability_of(parent: BorrowedFd<'_>, base: &[u8], path: &[u8]) -> Result<Option<Vec<u8>>> {
    let failed = |errno| failed("read the capabilities of", path, errno);
    let name = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), base].concat();
    // They have 24 bytes; more than there is room for is an error of its own.
    let mut value = [0; 64];
    let mut large = Vec::new();
    let mut read = fs::lgetxattr(&name, c"security.capability", &mut value[..]);
    if read == Err(Errno::RANGE) {
        large.resize(MAX_XATTR_BYTES, 0);
        read = fs::lgetxattr(&name, c"security.capability", large.as_mut_slice());
    }
    match read {
        Ok(0) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Ok(length) if large.is_empty() => Ok(Some(value[..length].to_vec())),
        Ok(length) => Ok(Some(large[..length].to_vec())),
        Err(errno) => Err(failed(errno)),
    }
}

/// Opens a regular file for reading; never waits for somebody at the other end of a pipe.
pub(crate) fn open_file(root: &Root, path: &[u8]) -> Result<std::fs::File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    regular(root.open_exact(path, flags)?)
}

/// The same of `base` in an open directory.
pub(crate) fn open_file_in(parent: BorrowedFd<'_>, base: &[u8]) -> Result<std::fs::File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    regular(fs::openat(parent, base, flags, fs::Mode::empty())?)
}

fn regular(file: OwnedFd) -> Result<std::fs::File, Errno> {
    if kind(&fs::fstat(&file)?) != FileType::RegularFile {
        return Err(Errno::STALE);
    }
    Ok(file.into())
}

fn same_contents(lower: &Root, upper: &Root, path: &[u8]) -> std::io::Result<bool> {
    let (mut first, mut second) = (open_file(lower, path)?, open_file(upper, path)?);
    let mut buffers = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    loop {
        let count = first.read(&mut buffers.0)?;
        if count == 0 {
            return Ok(second.read(&mut buffers.1[..1])? == 0);
        }
        match second.read_exact(&mut buffers.1[..count]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        if buffers.0[..count] != buffers.1[..count] {
            return Ok(false);
        }
    }
}

fn directory(root: &Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    root.open_exact(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
}

fn look(directory: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn children(root: &Root, path: &[u8]) -> Result<Vec<(Vec<u8>, Stat)>, Errno> {
    let directory = directory(root, path)?;
    let mut children = Vec::new();
    for name in names(&directory)? {
        // What vanishes while a container runs was never there.
        if let Some(stat) = look(&directory, &name)? {
            children.push((name, stat));
        }
    }
    Ok(children)
}

fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut listing = Dir::read_from(directory)?;
    let mut names = Vec::new();
    while let Some(entry) = listing.read() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Names by inode: which names of a file were written, and which wait for it to change.
#[derive(Default)]
pub(crate) struct HardLinks {
    written: HashMap<(u64, u64), Vec<u8>>,
    waiting: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

impl HardLinks {
    /// The name under which the file was written, if it was.
    pub(crate) fn written_as(&self, stat: &Stat) -> Option<&Vec<u8>> {
        self.written.get(&(stat.st_dev, stat.st_ino))
    }

    /// The file has another name that did not change.
    pub(crate) fn wait(&mut self, stat: &Stat, name: Vec<u8>) {
        self.waiting.entry((stat.st_dev, stat.st_ino)).or_default().push(name);
    }

    /// The file is written as `name`; what else it is called follows.
    pub(crate) fn write(&mut self, stat: &Stat, name: Vec<u8>) -> Vec<Vec<u8>> {
        self.written.insert((stat.st_dev, stat.st_ino), name);
        self.waiting.remove(&(stat.st_dev, stat.st_ino)).unwrap_or_default()
    }
}
