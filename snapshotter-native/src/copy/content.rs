//! The bytes of a file: shared with the source where the filesystem can, else copied without its holes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom as Position, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

/// Copies the `length` bytes of the file `from` into the new file `to`.
pub(super) fn copy(from: &Path, to: &Path, length: u64) -> io::Result<()> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let source = OpenOptions::new().read(true).custom_flags(no_follow).open(from)?;
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    if length == 0 || rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let mut start = 0;
    while let Some((data, hole)) = next_data(&source, start)? {
        copy_range(&source, &target, data, hole)?;
        start = hole;
    }
    // A hole at the end is length, too.
    target.set_len(length)
}

/// The next range from `start` on that is not a hole.
fn next_data(source: &File, start: u64) -> io::Result<Option<(u64, u64)>> {
    let data = match rustix::fs::seek(source, SeekFrom::Data(start)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        // A filesystem that does not know of holes: all that is left is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            let end = source.metadata()?.len();
            return Ok((start < end).then_some((start, end)));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Some((data, rustix::fs::seek(source, SeekFrom::Hole(data))?)))
}

/// Copies the bytes from `start` to `end`, inside the kernel if it can.
fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let wanted = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), wanted) {
            // The file is shorter than it was.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_through(source, target, from, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_through(mut source: &File, mut target: &File, start: u64, end: u64) -> io::Result<()> {
    source.seek(Position::Start(start))?;
    target.seek(Position::Start(start))?;
    let mut part = source.take(end - start);
    io::copy(&mut part, &mut target)?;
    target.flush()
}
