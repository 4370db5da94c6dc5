//! An open file whose changes pass the seam.

use std::{
    fs::{File, Permissions},
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{FileExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::seam::{FileId, Operation, Seam, Step};

/// An open file whose writes, lengths, modes and syncs pass the seam of its [`Disk`](crate::Disk).
///
/// Written bytes are on stable storage only after [`DiskFile::sync_data`] or [`DiskFile::sync_all`], and the name of a
/// new file only after [`Disk::sync_folder`](crate::Disk::sync_folder). Reading goes through [`DiskFile::reader`] or `std`.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    id: FileId,
    path: PathBuf,
    seam: Option<Arc<dyn Seam>>,
    length: u64,
    write_back_bytes: Option<u64>,
    handed_over: u64,
}

impl DiskFile {
    pub(crate) fn new(
        file: File,
        id: FileId,
        path: PathBuf,
        seam: Option<Arc<dyn Seam>>,
        length: u64,
    ) -> Self {
        Self { file, id, path, seam, length, write_back_bytes: None, handed_over: length }
    }

    /// The name under which it was opened; a later rename is not followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length in bytes, counting what was not synced yet.
    #[must_use]
    pub fn length_bytes(&self) -> u64 {
        self.length
    }

    /// The open file, for reading. Changing it directly would go past the seam.
    #[must_use]
    pub fn reader(&self) -> &File {
        &self.file
    }

    /// Where the first hole begins, in bytes from the start: what nobody wrote and reads as zeros. The length if there is none,
    /// or the filesystem cannot tell.
    ///
    /// A power cut may leave one where the length of a file reached the disk and its last bytes did not.
    ///
    /// # Errors
    /// Those of the system.
    pub fn first_hole_bytes(&self) -> io::Result<u64> {
        if self.length == 0 {
            return Ok(0);
        }
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(0)) {
            Ok(hole) => Ok(hole.min(self.length)),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(self.length),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes every `bytes` appended bytes start on their way to the disk at once.
    ///
    /// The kernel of a machine with much memory begins very late; without this the final sync pays for everything.
    /// It is a hint: nothing becomes durable by it, and its failure is ignored (the sync reports errors).
    pub fn start_write_back_every(&mut self, bytes: u64) {
        self.write_back_bytes = Some(bytes.max(1));
    }

    /// Writes `data` at the end.
    ///
    /// # Errors
    /// Those of the system; part of `data` may have been written, and [`DiskFile::length_bytes`] says how much: cut the
    /// file back with [`DiskFile::set_length`] before going on.
    pub fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, self.length)
    }

    /// Writes the pieces at the end, one after the other, without putting them together first.
    ///
    /// # Errors
    /// As for [`DiskFile::append`].
    pub fn append_pieces(&mut self, pieces: &[impl AsRef<[u8]>]) -> io::Result<()> {
        if self.seam.is_some() {
            // The seam sees one write a piece: a fault may come between any two.
            return pieces.iter().try_for_each(|piece| self.append(piece.as_ref()));
        }
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece.as_ref())).collect();
        let written = write_slices(self.file.as_fd(), &mut slices, &mut self.length);
        if written.is_err() {
            // How much arrived is known only from the file.
            self.length = self.file.metadata().map_or(self.length, |metadata| metadata.len());
        }
        written?;
        self.hand_over();
        Ok(())
    }

    /// Writes `data` at `offset` bytes from the start.
    ///
    /// # Errors
    /// Those of the system; part of `data` may have been written.
    pub fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let operation = Operation::Write { file: self.id, path: &self.path, offset, data };
        let (allowed, refusal) = match before(self.seam.as_ref(), &operation) {
            Step::Go => (data, None),
            Step::Fail(error) => return Err(error),
            Step::Short { bytes, error } => (data.get(..bytes).unwrap_or(data), Some(error)),
        };
        let written = self.file.write_all_at(allowed, offset);
        if written.is_err() {
            // How much arrived is known only from the file.
            self.length = self.file.metadata().map_or(self.length, |metadata| metadata.len());
        } else {
            self.length = self.length.max(offset + allowed.len() as u64);
            let done = Operation::Write { file: self.id, path: &self.path, offset, data: allowed };
            after(self.seam.as_ref(), &done);
        }
        written?;
        self.hand_over();
        refusal.map_or(Ok(()), Err)
    }

    /// Cuts the file to `length` bytes, or grows it with zeros.
    ///
    /// # Errors
    /// Those of the system; the length is unchanged.
    pub fn set_length(&mut self, length: u64) -> io::Result<()> {
        let operation = Operation::SetLength { file: self.id, path: &self.path, length };
        pass(self.seam.as_ref(), &operation, || self.file.set_len(length))?;
        self.length = length;
        self.handed_over = self.handed_over.min(length);
        Ok(())
    }

    /// Sets the permission bits, whatever the umask.
    ///
    /// # Errors
    /// Those of the system; the mode is unchanged.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let operation = Operation::SetMode { file: self.id, path: &self.path, mode };
        pass(self.seam.as_ref(), &operation, || self.file.set_permissions(Permissions::from_mode(mode)))
    }

    /// Waits until the bytes and the length are on stable storage.
    ///
    /// # Errors
    /// Those of the system. What reached the disk is then unknown, and a second call may wrongly succeed: give the file up.
    pub fn sync_data(&self) -> io::Result<()> {
        let operation = Operation::SyncData { file: self.id, path: &self.path };
        pass(self.seam.as_ref(), &operation, || self.file.sync_data())
    }

    /// Waits until the bytes, the length, the mode and the times are on stable storage.
    ///
    /// # Errors
    /// As for [`DiskFile::sync_data`].
    pub fn sync_all(&self) -> io::Result<()> {
        let operation = Operation::SyncAll { file: self.id, path: &self.path };
        pass(self.seam.as_ref(), &operation, || self.file.sync_all())
    }

    fn hand_over(&mut self) {
        let Some(step) = self.write_back_bytes else { return };
        if self.length.saturating_sub(self.handed_over) < step {
            return;
        }
        start_write_back(self.file.as_fd(), self.handed_over, self.length - self.handed_over);
        self.handed_over = self.length;
    }
}

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl io::Write for DiskFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.append(data).map(|()| data.len())
    }

    /// Does nothing: there is no buffer. It is not a sync.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most slices that the system takes at once.
const SLICES_AT_ONCE: usize = 1024;

/// Writes all of `slices` at `offset`, which goes on with what is written.
fn write_slices(file: BorrowedFd<'_>, slices: &mut [IoSlice<'_>], offset: &mut u64) -> io::Result<()> {
    let mut left = slices;
    // Empty ones at the beginning would make a write of nothing, which looks like a failure.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let together = left.len().min(SLICES_AT_ONCE);
        match rustix::io::pwritev(file, &left[..together], *offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                *offset += count as u64;
                IoSlice::advance_slices(&mut left, count);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Starts the write-back of a range without waiting for it.
fn start_write_back(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: the descriptor is borrowed and open, and the call takes no pointers.
    // A failure is no news: the later sync reports it.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

pub(crate) fn before(seam: Option<&Arc<dyn Seam>>, operation: &Operation<'_>) -> Step {
    seam.map_or(Step::Go, |seam| seam.before(operation))
}

pub(crate) fn after(seam: Option<&Arc<dyn Seam>>, operation: &Operation<'_>) {
    if let Some(seam) = seam {
        seam.after(operation);
    }
}

/// Does `action` if the seam lets `operation` pass.
pub(crate) fn pass<T>(
    seam: Option<&Arc<dyn Seam>>,
    operation: &Operation<'_>,
    action: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    before(seam, operation).into_result()?;
    let value = action()?;
    after(seam, operation);
    Ok(value)
}
