//! Making what an entry describes (rows B03 and B06 to B09).

use std::{
    fs::File,
    io::{BufRead, Seek, SeekFrom, Write},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    Place, UnpackError, Unpacker,
    attributes::{Target, times_of},
    error::shown,
    root::Directory,
};
use crate::archive::{Entry, EntryKind, Piece, Reader};

/// How regular files are opened: never through a link, never one that exists.
const CREATE_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Unpacker {
    pub(crate) fn create<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place,
        archive: &mut Reader<R>,
    ) -> Result<(), UnpackError> {
        let base = place.base.as_slice();
        match entry.kind {
            EntryKind::File => self.create_file(entry, place, archive),
            EntryKind::Directory => self.create_directory(entry, place),
            EntryKind::HardLink => self.create_hard_link(entry, place),
            EntryKind::Symlink => {
                self.replace(place, "make the link", || {
                    fs::symlinkat(entry.link.as_slice(), &*place.parent, base)
                })?;
                self.set_all(entry, place, FileType::Symlink)
            }
            EntryKind::CharacterDevice => self.create_node(entry, place, FileType::CharacterDevice),
            EntryKind::BlockDevice => self.create_node(entry, place, FileType::BlockDevice),
            EntryKind::Fifo => self.create_node(entry, place, FileType::Fifo),
            EntryKind::Other(_) => {
                Err(UnpackError::refused(&entry.path, "its type is not one that layers have"))
            }
        }
    }

    fn create_file<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place,
        archive: &mut Reader<R>,
    ) -> Result<(), UnpackError> {
        let mode = Mode::RUSR | Mode::WUSR;
        let base = place.base.as_slice();
        let descriptor =
            self.replace(place, "create", || fs::openat(&*place.parent, base, CREATE_FILE, mode))?;
        let mut file = File::from(descriptor);
        let mut ends_in_hole = false;
        archive.read_contents(|piece| {
            let outcome = match piece {
                Piece::Data(data) => {
                    ends_in_hole = false;
                    self.write_back.add(data.len() as u64);
                    file.write_all(data)
                }
                Piece::Hole(length) => {
                    ends_in_hole = true;
                    file.seek(SeekFrom::Current(length.cast_signed())).map(drop)
                }
            };
            outcome.map_err(|source| UnpackError::System { doing: "write", path: shown(&place.path), source })
        })?;
        if ends_in_hole {
            fs::ftruncate(&file, entry.size_bytes).map_err(UnpackError::system("write", &place.path))?;
        }
        let target = Target::Open(file.as_fd(), FileType::RegularFile);
        self.set_attributes(entry, &place.path, target)?;
        Self::set_times(entry, &place.path, target)
    }

    /// Makes a directory, or gives one that exists the attributes that the entry names (row B03).
    fn create_directory(&mut self, entry: &Entry, place: &Place) -> Result<(), UnpackError> {
        let failed = || UnpackError::system("make the directory", &place.path);
        let make = || fs::mkdirat(&*place.parent, place.base.as_slice(), Mode::RWXU);
        let mut is_new = true;
        let mut replaces = false;
        match make() {
            Err(Errno::EXIST) => {
                let stat = fs::statat(&*place.parent, place.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed())?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    is_new = false;
                } else {
                    self.clear(place)?;
                    make().map_err(failed())?;
                    replaces = true;
                }
            }
            outcome => outcome.map_err(failed())?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor: OwnedFd =
            fs::openat(&*place.parent, place.base.as_slice(), flags, Mode::empty()).map_err(failed())?;
        if replaces {
            // What it replaces hid what the layers below have there, for example a whiteout; so must it.
            self.mark_opaque(&descriptor).map_err(UnpackError::system("make opaque", &place.path))?;
        }
        self.set_attributes(entry, &place.path, Target::Open(descriptor.as_fd(), FileType::Directory))?;
        if is_new {
            self.layer.add_directory(&place.path);
        }
        self.directory_times.insert(place.path.clone(), times_of(entry));
        self.root.remember(place.literal.clone(), Directory::new(descriptor, place.path.clone()));
        Ok(())
    }

    fn create_hard_link(&mut self, entry: &Entry, place: &Place) -> Result<(), UnpackError> {
        let cut = entry.link.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, base) = entry.link.split_at(cut);
        if matches!(base, b"" | b"." | b"..") {
            return Err(UnpackError::refused(&entry.path, "it is a hard link to a directory"));
        }
        // Links are followed on the way, below the root; the last component may be a link itself (row B08).
        let parent = self.root.existing_directory(parent)?;
        self.replace(place, "make the hard link", || {
            fs::linkat(&*parent, base, &*place.parent, place.base.as_slice(), AtFlags::empty())
        })?;
        let failed = || UnpackError::system("look at", &place.path);
        let stat =
            fs::statat(&*place.parent, place.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if (i64::from(stat.st_uid), i64::from(stat.st_gid)) == (entry.uid, entry.gid) {
            // Setting the same owner again would take the capabilities away that came with the file itself.
            let same_owner = std::mem::replace(&mut self.same_owner, false);
            let outcome = self.set_all(entry, place, kind);
            self.same_owner = same_owner;
            return outcome;
        }
        self.set_all(entry, place, kind)
    }

    fn create_node(&mut self, entry: &Entry, place: &Place, kind: FileType) -> Result<(), UnpackError> {
        let (Ok(major), Ok(minor)) = (u32::try_from(entry.device.0), u32::try_from(entry.device.1)) else {
            return Err(UnpackError::refused(&entry.path, "its device number does not fit into 32 bits"));
        };
        let device = if kind == FileType::Fifo { 0 } else { fs::makedev(major, minor) };
        self.replace(place, "make the node", || {
            fs::mknodat(&*place.parent, place.base.as_slice(), kind, Mode::RUSR, device)
        })?;
        self.set_all(entry, place, kind)
    }

    fn set_all(&mut self, entry: &Entry, place: &Place, kind: FileType) -> Result<(), UnpackError> {
        let target = Target::Name(place, kind);
        self.set_attributes(entry, &place.path, target)?;
        Self::set_times(entry, &place.path, target)
    }

    /// Creates with a call that never replaces; what is in its way is removed first.
    fn replace<T>(
        &mut self,
        place: &Place,
        doing: &'static str,
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        match create() {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                create()
            }
            outcome => outcome,
        }
        .map_err(UnpackError::system(doing, &place.path))
    }
}
