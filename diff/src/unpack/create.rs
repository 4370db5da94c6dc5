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
    attributes::{Done, Target, set_times, times_of},
    error::shown,
    finish::{FileJob, SMALL_BYTES},
    name::join,
    root::Directory,
    sink::{Checksum, Placed},
};
use crate::archive::{Entry, EntryKind, Piece, Reader};

/// How regular files are opened: never through a link, never one that exists.
pub(crate) const CREATE_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The bits of a mode that writing and changing the owner take away.
const SPECIAL_BITS: u32 = 0o7000;

impl Unpacker<'_> {
    pub(crate) fn create<R: BufRead>(
        &mut self,
        entry: Entry,
        place: &Place,
        archive: &mut Reader<R>,
    ) -> Result<(), UnpackError> {
        let base = place.base.as_slice();
        if let Some(deferred) = self.deferred.as_mut().filter(|_| entry.kind != EntryKind::Directory) {
            deferred.replace_link(&place.path);
        }
        match entry.kind {
            EntryKind::File => self.create_file(entry, place, archive),
            EntryKind::Directory => self.create_directory(&entry, place),
            EntryKind::HardLink => self.create_hard_link(&entry, place),
            EntryKind::Symlink => {
                self.replace(place, "make the link", || {
                    fs::symlinkat(entry.link.as_slice(), &*place.parent, base)
                })?;
                self.told.put(&place.path, Placed::Symlink { target: &entry.link });
                self.set_all(&entry, place, FileType::Symlink, Done::default())
            }
            EntryKind::CharacterDevice => self.create_node(&entry, place, FileType::CharacterDevice),
            EntryKind::BlockDevice => self.create_node(&entry, place, FileType::BlockDevice),
            EntryKind::Fifo => self.create_node(&entry, place, FileType::Fifo),
            EntryKind::Other(_) => {
                Err(UnpackError::refused(&entry.path, "its type is not one that layers have"))
            }
        }
    }

    fn create_file<R: BufRead>(
        &mut self,
        entry: Entry,
        place: &Place,
        archive: &mut Reader<R>,
    ) -> Result<(), UnpackError> {
        // With attributes to set it must stay writable, and what changes the mode afterwards must not be undone.
        let is_plain = entry.mode & SPECIAL_BITS == 0 && entry.xattrs.is_empty();
        let has_mode = is_plain && self.umask_is_clear && place.parent.keeps_modes();
        let mode = Mode::from_raw_mode(if has_mode { entry.mode } else { 0o600 });
        let base = place.base.as_slice();
        let descriptor =
            self.replace(place, "create", || fs::openat(&*place.parent, base, CREATE_FILE, mode))?;
        let owner =
            place.parent.new_owner(&descriptor).map_err(UnpackError::system("look at", &place.path))?;
        let has_owner = (i64::from(owner.0), i64::from(owner.1)) == (entry.uid, entry.gid);
        let done = Done { owner: has_owner, mode: has_mode };
        let file = File::from(descriptor);
        self.write_back.add_rest_of_page(entry.size_bytes);
        if entry.size_bytes > SMALL_BYTES || archive.is_sparse() || !self.finishers.has_threads() {
            return self.fill(file, &entry, place, archive, done);
        }
        let mut data = self.finishers.buffer();
        archive.read_contents(|piece| {
            if let Piece::Data(piece) = piece {
                data.extend_from_slice(piece);
            }
            Ok::<(), UnpackError>(())
        })?;
        self.write_back.add(data.len() as u64);
        let job = FileJob { file, entry, path: place.path.clone(), data, done };
        self.finishers.submit(job, &mut self.told)
    }

    /// Writes a file while it is read.
    fn fill<R: BufRead>(
        &mut self,
        mut file: File,
        entry: &Entry,
        place: &Place,
        archive: &mut Reader<R>,
        done: Done,
    ) -> Result<(), UnpackError> {
        let is_told = self.told.is_wanted();
        let mut checksum = Checksum::default();
        let mut ends_in_hole = false;
        archive.read_contents(|piece| {
            let outcome = match piece {
                Piece::Data(data) => {
                    ends_in_hole = false;
                    self.write_back.add(data.len() as u64);
                    if is_told {
                        checksum.add(data);
                    }
                    file.write_all(data)
                }
                Piece::Hole(length) => {
                    ends_in_hole = true;
                    if is_told {
                        checksum.add_hole(length);
                    }
                    file.seek(SeekFrom::Current(length.cast_signed())).map(drop)
                }
            };
            outcome.map_err(|source| UnpackError::System { doing: "write", path: shown(&place.path), source })
        })?;
        if ends_in_hole {
            fs::ftruncate(&file, entry.size_bytes).map_err(UnpackError::system("write", &place.path))?;
        }
        let target = Target::Open(file.as_fd(), FileType::RegularFile);
        self.unpacked.skipped_xattrs += self.setter.set_attributes(entry, &place.path, target, done)?;
        set_times(entry, &place.path, target)?;
        let placed = Placed::File { size_bytes: entry.size_bytes, crc32c: checksum.value() };
        self.told.put(&place.path, placed);
        Ok(())
    }

    /// Makes a directory, or gives one that exists the attributes that the entry names (row B03).
    fn create_directory(&mut self, entry: &Entry, place: &Place) -> Result<(), UnpackError> {
        let failed = || UnpackError::system("make the directory", &place.path);
        let make = || fs::mkdirat(&*place.parent, place.base.as_slice(), Mode::RWXU);
        let mut is_new = true;
        let mut replaces = self.deferred.as_mut().is_some_and(|list| list.replace_link(&place.path));
        match make() {
            Err(Errno::EXIST) => {
                let stat = fs::statat(&*place.parent, place.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed())?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    is_new = false;
                } else {
                    let was_deferred =
                        self.deferred.as_ref().is_some_and(|list| list.has_whiteout(&place.path));
                    self.clear(place)?;
                    make().map_err(failed())?;
                    replaces = true;
                    if let Some(deferred) = self.deferred.as_mut().filter(|_| was_deferred) {
                        deferred.add_opaque(&place.path)?;
                    }
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
        } else {
            self.root.relearn();
        }
        if let Some(deferred) = &mut self.deferred {
            deferred.has_entry(&place.path);
        }
        self.told.put(&place.path, Placed::Directory);
        self.times.push(&self.root, &place.path, times_of(entry))?;
        self.root.remember(place.literal.clone(), Directory::new(descriptor, place.path.clone()));
        Ok(())
    }

    pub(crate) fn create_hard_link(&mut self, entry: &Entry, place: &Place) -> Result<(), UnpackError> {
        let cut = entry.link.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, base) = entry.link.split_at(cut);
        if matches!(base, b"" | b"." | b"..") {
            return Err(UnpackError::refused(&entry.path, "it is a hard link to a directory"));
        }
        let Some(target) = self.find_link_target(parent, base)? else {
            if let Some(deferred) = &mut self.deferred {
                return deferred.add_link(entry, &place.path);
            }
            return Err(UnpackError::system("find the target of the hard link", &entry.path)(Errno::NOENT));
        };
        let target_path = join(&target.path, base);
        if target_path == place.path {
            // It is what it should become; removing it first would lose it.
            return Err(UnpackError::refused(&entry.path, "it is a hard link to itself"));
        }
        self.replace(place, "make the hard link", || {
            fs::linkat(&*target, base, &*place.parent, place.base.as_slice(), AtFlags::empty())
        })?;
        self.told.put(&place.path, Placed::HardLink { target: &target_path });
        // What is still to be done to the file would undo what the link's own entry says.
        self.finishers.drain(&mut self.told)?;
        self.set_all_of_link(entry, place)
    }

    fn set_all_of_link(&mut self, entry: &Entry, place: &Place) -> Result<(), UnpackError> {
        let failed = || UnpackError::system("look at", &place.path);
        let stat =
            fs::statat(&*place.parent, place.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Setting the same owner again would take the capabilities away that came with the file itself.
        let has_owner = (i64::from(stat.st_uid), i64::from(stat.st_gid)) == (entry.uid, entry.gid);
        self.set_all(entry, place, kind, Done { owner: has_owner, mode: false })
    }

    /// Does to the target of a hard link what making the link does to it.
    pub(crate) fn change_link_target(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let cut = entry.link.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, base) = entry.link.split_at(cut);
        let Some(parent) = self.find_link_target(parent, base)? else {
            return Err(UnpackError::system("find the target of the hard link", &entry.path)(Errno::NOENT));
        };
        let path = join(&parent.path, base);
        self.set_all_of_link(entry, &Place { parent, base: base.to_vec(), path, literal: Vec::new() })
    }

    fn create_node(&mut self, entry: &Entry, place: &Place, kind: FileType) -> Result<(), UnpackError> {
        let (Ok(major), Ok(minor)) = (u32::try_from(entry.device.0), u32::try_from(entry.device.1)) else {
            return Err(UnpackError::refused(&entry.path, "its device number does not fit into 32 bits"));
        };
        let device = if kind == FileType::Fifo { 0 } else { fs::makedev(major, minor) };
        self.replace(place, "make the node", || {
            fs::mknodat(&*place.parent, place.base.as_slice(), kind, Mode::RUSR, device)
        })?;
        let placed = match kind {
            FileType::CharacterDevice => Placed::CharacterDevice { device },
            FileType::BlockDevice => Placed::BlockDevice { device },
            _ => Placed::Fifo,
        };
        self.told.put(&place.path, placed);
        self.set_all(entry, place, kind, Done::default())
    }

    fn set_all(
        &mut self,
        entry: &Entry,
        place: &Place,
        kind: FileType,
        done: Done,
    ) -> Result<(), UnpackError> {
        let target = Target::Name(place, kind);
        self.unpacked.skipped_xattrs += self.setter.set_attributes(entry, &place.path, target, done)?;
        set_times(entry, &place.path, target)
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
