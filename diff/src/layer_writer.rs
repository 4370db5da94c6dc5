//! Changes as a layer's archive (OCI image-spec layer.md, rows W02 to W07).

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use corten_types::{Error, ErrorKind, Result};
use rustix::fs::{self, FileType, OFlags, Stat};

use crate::{
    archive::{EntryKind, Header, Time, Writer},
    changes::{Change, HardLinks, capability, capability_of, failed, kind, open_file_in, read_link},
    unpack::{Root, join, shown},
};

/// How much of a file is read at once.
const READ_BYTES: usize = 128 * 1024;

pub(crate) struct LayerWriter<'a, W> {
    archive: Writer<W>,
    root: &'a Root,
    /// No time is later than this (row D07).
    latest: Option<Time>,
    hard_links: HardLinks,
    /// Directories that have an entry.
    directories: HashSet<Vec<u8>>,
    /// The directory of the last file, open: the next is likely in it, too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> LayerWriter<'a, W> {
    /// Writes what lies below `root` to `sink`.
    pub(crate) fn new(sink: W, root: &'a Root, latest: Option<SystemTime>) -> Self {
        Self {
            archive: Writer::new(sink),
            root,
            latest: latest.map(time_of),
            hard_links: HardLinks::default(),
            directories: HashSet::new(),
            parent: None,
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(crate) fn add(&mut self, path: &[u8], change: Change) -> Result<()> {
        match change {
            Change::Removed => self.add_whiteout(path),
            Change::Changed(stat) => self.add_file(path, &stat, true),
            Change::SameLinked(stat) => self.add_file(path, &stat, false),
        }
    }

    pub(crate) fn finish(self) -> Result<W> {
        self.archive.finish().map_err(cannot_write)
    }

    fn add_whiteout(&mut self, path: &[u8]) -> Result<()> {
        self.add_parents(path)?;
        let (parent, base) = split(path);
        let name = join(parent, &[b".wh.", base].concat());
        let header = Header { mode: 0, ..Header::new(EntryKind::File, name) };
        self.archive.write_header(&header).map_err(cannot_write)
    }

    fn add_file(&mut self, path: &[u8], stat: &Stat, is_changed: bool) -> Result<()> {
        let Some(mut header) = self.header(path, stat)? else { return Ok(()) };
        let mut other_names = Vec::new();
        if header.kind != EntryKind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.hard_links.written_as(stat) {
                header.kind = EntryKind::HardLink;
                header.link.clone_from(first);
                header.size_bytes = 0;
            } else if is_changed {
                other_names = self.hard_links.write(stat, path.to_vec());
            } else {
                self.hard_links.wait(stat, path.to_vec());
                return Ok(());
            }
        } else if !is_changed {
            return Ok(());
        }
        let (_, base) = split(path);
        if let Some(value) = capability_of(self.parent(path)?, base, path)? {
            header.xattrs.push((b"security.capability".to_vec(), value));
        }
        self.add_parents(path)?;
        if header.kind == EntryKind::Directory {
            self.directories.insert(path.to_vec());
        }
        self.archive.write_header(&header).map_err(cannot_write)?;
        if header.kind == EntryKind::File && header.size_bytes > 0 {
            self.add_contents(path, header.size_bytes)?;
        }
        for name in other_names {
            self.add_parents(&name)?;
            let link = Header {
                kind: EntryKind::HardLink,
                link: path.to_vec(),
                path: name,
                size_bytes: 0,
                ..header.clone()
            };
            self.archive.write_header(&link).map_err(cannot_write)?;
        }
        Ok(())
    }

    /// Writes entries for the directories above that have none yet, the outermost first (row W04).
    fn add_parents(&mut self, path: &[u8]) -> Result<()> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in slashes.collect::<Vec<_>>() {
            let parent = &path[..end];
            if !self.directories.insert(parent.to_vec()) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let stat = self.root.open_exact(parent, flags).and_then(fs::fstat);
            let stat = stat.map_err(|errno| failed("look at", parent, errno))?;
            let Some(mut header) = self.header(parent, &stat)? else { continue };
            if let Some(value) = capability(self.root, parent)? {
                header.xattrs.push((b"security.capability".to_vec(), value));
            }
            self.archive.write_header(&header).map_err(cannot_write)?;
        }
        Ok(())
    }

    /// The header of a file; nothing for sockets, which layers do not have (row W07).
    fn header(&self, path: &[u8], stat: &Stat) -> Result<Option<Header>> {
        let kind = match kind(stat) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharacterDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        let modified =
            Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        Ok(Some(Header {
            kind,
            path: if kind == EntryKind::Directory { [path, b"/"].concat() } else { path.to_vec() },
            link: if kind == EntryKind::Symlink { read_link(self.root, path)? } else { Vec::new() },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: if kind == EntryKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            modified_seconds: self.latest.map_or(modified, |latest| modified.min(latest)).seconds,
            device: if is_device { (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)) } else { (0, 0) },
            xattrs: Vec::new(),
        }))
    }

    /// The directory that `path` is in.
    fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        let (parent, _) = split(path);
        if self.parent.as_ref().is_none_or(|(known, _)| known != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = self.root.open_exact(parent, flags);
            self.parent = Some((parent.to_vec(), opened.map_err(|errno| failed("open", parent, errno))?));
        }
        Ok(self.parent.as_ref().expect("it was just opened").1.as_fd())
    }

    /// Copies exactly as many bytes as the header says.
    fn add_contents(&mut self, path: &[u8], size_bytes: u64) -> Result<()> {
        let cannot_read = |error| Error::io(format!("cannot read {}", shown(path)), error);
        let (_, base) = split(path);
        let file = open_file_in(self.parent(path)?, base).map_err(|errno| failed("open", path, errno))?;
        let mut file = file.take(size_bytes);
        let mut missing = size_bytes;
        loop {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot_read(error)),
            };
            self.archive.write_contents(&self.buffer[..count]).map_err(cannot_write)?;
            missing -= count as u64;
        }
        if missing > 0 {
            return Err(Error::new(
                ErrorKind::FailedPrecondition,
                format!("{} became shorter while it was read", shown(path)),
            ));
        }
        Ok(())
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter()
        .rposition(|byte| *byte == b'/')
        .map_or((b"", path), |slash| (&path[..slash], &path[slash + 1..]))
}

fn cannot_write(error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| Error::io("cannot write the layer", error))
}

fn time_of(time: SystemTime) -> Time {
    let split = |since: Duration| (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos());
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => {
            let (seconds, nanoseconds) = split(since);
            Time { seconds, nanoseconds }
        }
        Err(before) => match split(before.duration()) {
            (seconds, 0) => Time { seconds: -seconds, nanoseconds: 0 },
            (seconds, nanoseconds) => {
                Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds }
            }
        },
    }
}
