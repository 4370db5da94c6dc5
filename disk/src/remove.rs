//! Removing a folder with everything in it, without following a link and without running out of stack or descriptors.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, Mode, OFlags},
    io::Errno,
};

/// How deep folders are held open. What lies deeper is moved up before it is removed.
const OPEN_LEVELS: usize = 32;

/// How often a tree is listed. A pass takes [`OPEN_LEVELS`] levels off the deepest branch.
const PASSES_LIMIT: usize = 100_000;

/// Removes the folder `path`; a link at its place is removed itself.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let top = match open_folder(CWD, path) {
        Ok(top) => top,
        // A link, whatever it points to.
        Err(Errno::LOOP) => return Ok(fs::unlink(path)?),
        Err(Errno::NOTDIR) if fs::lstat(path)?.st_mode & libc::S_IFMT == libc::S_IFLNK => {
            return Ok(fs::unlink(path)?);
        }
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0;
    // What is moved up may be missed by the listing that is under way: list until nothing is left.
    for _ in 0..PASSES_LIMIT {
        empty(&top, &mut moved)?;
        match fs::rmdir(path) {
            Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Somebody fills it faster than it is emptied.
    Err(Errno::NOTEMPTY.into())
}

/// Removes what `top` contains, as far as the listing shows it.
fn empty(top: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    let mut stack: Vec<(Dir, Vec<u8>)> = vec![(Dir::read_from(top)?, Vec::new())];
    loop {
        let depth = stack.len();
        let Some((folder, _)) = stack.last_mut() else { return Ok(()) };
        let Some(entry) = folder.read() else {
            let (_, name) = stack.pop().expect("the loop saw an element");
            if let Some((above, _)) = stack.last() {
                let removed = fs::unlinkat(above.fd()?, name.as_slice(), AtFlags::REMOVEDIR);
                // Refilled, or missed by the listing: the caller lists again.
                if !matches!(removed, Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST)) {
                    return removed;
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        let here = folder.fd()?;
        if entry.file_type() != fs::FileType::Directory {
            match fs::unlinkat(here, name.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        match fs::unlinkat(here, name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let child = open_folder(here, name.as_slice())?;
        if depth < OPEN_LEVELS {
            let listing = Dir::read_from(&child)?;
            stack.push((listing, name));
        } else {
            move_up(top, here, &name, moved)?;
        }
    }
}

/// Moves a deep folder to the top, under a name that is free there.
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

fn open_folder(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests;
