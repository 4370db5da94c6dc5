//! Removing whatever is at a name, without following a link and without running out of stack or descriptors.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

/// How deep directories are held open. What lies deeper is moved up before it is removed.
const MAX_DEPTH: usize = 32;

/// How often a tree is listed. A pass takes [`MAX_DEPTH`] levels off the deepest branch.
const MAX_PASSES: usize = 100_000;

/// Removes `name` in `parent` with everything below it. Says what it was, or nothing if it was not there.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> Result<Option<FileType>, Errno> {
    let stat = match fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Directory {
        absent_is_fine(fs::unlinkat(parent, name, AtFlags::empty()))?;
        return Ok(Some(kind));
    }
    match fs::unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Some(kind)),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let top = open_directory(parent.as_fd(), name)?;
    let mut moved = 0_u64;
    // What is moved up may be missed by the listing that is under way: list until nothing is left.
    for _ in 0..MAX_PASSES {
        empty(&top, &mut moved)?;
        match fs::unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Some(kind)),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    // Somebody fills it faster than it is emptied.
    Err(Errno::NOTEMPTY)
}

/// Removes everything in `folder`.
pub(crate) fn remove_contents(folder: &OwnedFd) -> Result<(), Errno> {
    let mut moved = 0_u64;
    for _ in 0..MAX_PASSES {
        if is_empty(folder)? {
            return Ok(());
        }
        empty(folder, &mut moved)?;
    }
    Err(Errno::NOTEMPTY)
}

/// Whether there is nothing in `folder`.
pub(crate) fn is_empty(folder: impl AsFd) -> Result<bool, Errno> {
    let mut listing = Dir::read_from(folder)?;
    while let Some(entry) = listing.read() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what `top` contains, as far as the listing shows it.
fn empty(top: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    let mut stack: Vec<(Dir, Vec<u8>)> = vec![(Dir::read_from(top)?, Vec::new())];
    loop {
        let depth = stack.len();
        let Some((directory, _)) = stack.last_mut() else { return Ok(()) };
        let Some(entry) = directory.read() else {
            let (_, name) = stack.pop().expect("the loop saw an element");
            if let Some((above, _)) = stack.last() {
                match fs::unlinkat(above.fd()?, name.as_slice(), AtFlags::REMOVEDIR) {
                    // Refilled or missed by the listing: the caller lists again.
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        let here = directory.fd()?;
        match fs::unlinkat(here, name.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        match fs::unlinkat(here, name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let child = open_directory(here, &name)?;
        if depth < MAX_DEPTH {
            let listing = Dir::read_from(&child)?;
            stack.push((listing, name));
        } else {
            move_up(top, here, &name, moved)?;
        }
    }
}

/// Moves a deep directory to the top under a name that is free there.
fn move_up(top: &OwnedFd, from: impl AsFd, name: &[u8], moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let free = format!(".corten-removed-{moved}");
        match fs::renameat_with(from.as_fd(), name, top, free, fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            outcome => return outcome,
        }
    }
}

fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

fn absent_is_fine(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}
