//! A file that this process answers for: a loop device on it is a disk that can be slow, or remember what was written.
//!
//! Nothing is kept between the loop device and the [`Storage`]: each write and each flush of the device arrives here, in order.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, Session, WriteFlags,
};
use rustix::mount::UnmountFlags;

/// The only file's name.
const NAME: &str = "disk";

const FOLDER: INodeNo = INodeNo::ROOT;
const DISK: INodeNo = INodeNo(2);

/// Nothing about the file ever changes.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// A flush that takes its time must not hold up reads.
const THREADS: usize = 4;

/// What a disk is made of. Calls may come at the same time.
pub trait Storage: Send + Sync + 'static {
    /// The size, which never changes.
    fn size_bytes(&self) -> u64;

    /// Fills `bytes` from `offset_bytes`; the range lies within the size.
    ///
    /// # Errors
    /// Goes to the loop device as an error of the disk.
    fn read(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`; the range lies within the size.
    ///
    /// # Errors
    /// As [`Storage::read`].
    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()>;

    /// Everything that was written before is on stable storage when this returns.
    ///
    /// # Errors
    /// As [`Storage::read`].
    fn flush(&self) -> io::Result<()>;
}

/// A disk in a sparse file whose every flush takes a given time, and is counted.
#[derive(Debug)]
pub struct SlowDisk {
    file: File,
    size_bytes: u64,
    flush: Duration,
    flushes: AtomicU64,
}

impl SlowDisk {
    /// A new disk of zeros in an unnamed file in `folder`; a folder in memory keeps the machine's own disk out of it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(folder: &Path, size_bytes: u64, flush: Duration) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder).context("make the file of a slow disk")?;
        file.set_len(size_bytes)?;
        Ok(Self { file, size_bytes, flush, flushes: AtomicU64::new(0) })
    }

    /// How many flushes came so far.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

impl Storage for SlowDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset_bytes)
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset_bytes)
    }

    fn flush(&self) -> io::Result<()> {
        std::thread::sleep(self.flush);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The mounted file. Dropping it unmounts; what still stands on it gets errors from then on.
pub struct BlockFile {
    folder: tempfile::TempDir,
    session: Option<BackgroundSession>,
}

impl BlockFile {
    /// Mounts a file system with one file that `storage` answers for. Needs root and `/dev/fuse`, and no other program.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn mount(storage: Arc<dyn Storage>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("corten-disk-").tempdir_in("/dev/shm")?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("corten-disk".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        let session = Session::new(OneFile { storage }, folder.path(), &config)
            .and_then(Session::spawn)
            .context("mount a file of our own (is /dev/fuse there?)")?;
        Ok(Self { folder, session: Some(session) })
    }

    /// The file: absolute.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        // A loop device may still use the file: the mount goes with its last user, and so do the threads.
        if let Err(error) = rustix::mount::unmount(self.folder.path(), UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.folder.path().display());
        }
        drop(self.session.take());
    }
}

struct OneFile {
    storage: Arc<dyn Storage>,
}

impl OneFile {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            FOLDER => (FileType::Directory, 0o700, 0),
            DISK => (FileType::RegularFile, 0o600, self.storage.size_bytes()),
            _ => return None,
        };
        let time = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// How much of `length` bytes from `offset_bytes` lies within the file.
    fn within(&self, offset_bytes: u64, length: usize) -> usize {
        let left = self.storage.size_bytes().saturating_sub(offset_bytes);
        usize::try_from(left).map_or(length, |left| left.min(length))
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_i32)
}

impl Filesystem for OneFile {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(DISK).filter(|_| parent == FOLDER && name == NAME) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _file: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        offset_bytes: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; self.within(offset_bytes, size as usize)];
        match self.storage.read(offset_bytes, &mut bytes) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        offset_bytes: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.within(offset_bytes, bytes.len()) < bytes.len() {
            return reply.error(Errno::EFBIG);
        }
        match (self.storage.write(offset_bytes, bytes), u32::try_from(bytes.len())) {
            (Ok(()), Ok(written)) => reply.written(written),
            (Ok(()), Err(_)) => reply.error(Errno::EFBIG),
            (Err(error), _) => reply.error(errno(&error)),
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        match self.storage.flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Of a file that is closed; it is no barrier.
    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}

#[cfg(test)]
mod tests;
