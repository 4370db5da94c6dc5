//! Unpacking a layer into a directory (OCI image-spec layer.md, rows B01 to B15).
//!
//! This module knows nothing of content stores and mounts: it takes an archive as a stream, and a directory.

mod attributes;
mod create;
mod error;
mod layer;
mod name;
mod parents;
mod remove;
mod root;
mod whiteout;
mod write_back;

use std::{
    collections::HashMap,
    io::BufRead,
    path::{Path, PathBuf},
    rc::Rc,
};

pub use error::UnpackError;
pub(crate) use error::shown;
pub(crate) use name::join;
pub(crate) use root::Root;
use rustix::fs::{self, OFlags};

use self::{
    attributes::timestamps, layer::LayerContents, name::Name, parents::LowerLayers, root::Directory,
    write_back::WriteBack,
};
use crate::archive::{Entry, EntryKind, Reader, Time};

/// How what a layer deletes is expressed in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whiteouts {
    /// The target is the whole tree: what is deleted is removed from it.
    #[default]
    Remove,
    /// The target is an upper directory of overlayfs: deletions are devices 0:0 and opaque directories.
    Overlay {
        /// The overlay keeps its attributes as `user.overlay.*` (mount option `userxattr`).
        user_xattrs: bool,
    },
}

/// How a layer is unpacked.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// How deletions are expressed.
    pub whiteouts: Whiteouts,
    /// The layers below an upper directory, the nearest first: directories that the layer does not mention get their
    /// attributes from there (row B02).
    pub lower_layers: Vec<PathBuf>,
    /// Give files to the owners that the archive names (row B11).
    pub same_owner: bool,
    /// Flush the target's filesystem at the end.
    pub sync: bool,
    /// Begin to write back to the disk whenever so many bytes were unpacked: the kernel begins late on machines with
    /// much memory, and everything would be left for the end.
    pub write_back_bytes: u64,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Remove,
            lower_layers: Vec::new(),
            same_owner: true,
            sync: false,
            write_back_bytes: 256 << 20,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// The number of entries.
    pub entries: u64,
    /// The sizes that their headers state, together (row B15).
    pub size_bytes: u64,
    /// Entries that were left out: devices inside a user namespace (row B07).
    pub skipped_entries: u64,
    /// Extended attributes that were left out: `trusted.*`, and what the filesystem or the file does not support
    /// (row B12).
    pub skipped_xattrs: u64,
}

/// Unpacks the archive that `reader` gives into the directory `root`, which exists.
///
/// Links that the archive makes are followed below `root` only, by the kernel. Reading stops at the archive's end;
/// bytes after it stay in `reader`.
///
/// # Errors
/// Broken archives, entries that are refused, and failures of the system. What was unpacked before stays.
pub fn unpack(reader: impl BufRead, root: &Path, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    let root = Root::open(root).map_err(UnpackError::system("open the target", b""))?;
    let mut archive = Reader::new(reader);
    let mut unpacker = Unpacker::new(root, options)?;
    while let Some(entry) = archive.next_entry()? {
        unpacker.add(&entry, &mut archive)?;
    }
    unpacker.finish()
}

/// Whether this process is in a user namespace, where devices cannot be made (row B07).
pub(crate) fn is_in_user_namespace() -> bool {
    // The initial namespace maps every number to itself.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let fields: Vec<&str> = map.split_whitespace().collect();
        fields != ["0", "0", "4294967295"]
    })
}

struct Unpacker {
    root: Root,
    whiteouts: Whiteouts,
    same_owner: bool,
    sync: bool,
    is_in_user_namespace: bool,
    lower_layers: LowerLayers,
    /// Which of what lies in the target came with this layer.
    layer: LayerContents,
    /// Times of directories, set when nothing more is put into them (row B14).
    directory_times: HashMap<Vec<u8>, (Time, Time)>,
    write_back: WriteBack,
    unpacked: Unpacked,
}

/// Where an entry goes.
struct Place {
    parent: Rc<Directory>,
    base: Vec<u8>,
    /// The whole path, without links.
    path: Vec<u8>,
    /// The whole path as the archive spells it, without dots.
    literal: Vec<u8>,
}

impl Unpacker {
    fn new(root: Root, options: &UnpackOptions) -> Result<Self, UnpackError> {
        let private_prefix = match options.whiteouts {
            Whiteouts::Overlay { user_xattrs: true } => Some(b"user.overlay.".as_slice()),
            _ => None,
        };
        let layer = match options.whiteouts {
            Whiteouts::Overlay { .. } => LayerContents::untracked(),
            Whiteouts::Remove => {
                LayerContents::of(&root).map_err(UnpackError::system("list the target", b""))?
            }
        };
        let write_back = WriteBack::new(&root, options.write_back_bytes)
            .map_err(UnpackError::system("open the target", b""))?;
        Ok(Self {
            root,
            whiteouts: options.whiteouts,
            same_owner: options.same_owner,
            sync: options.sync,
            is_in_user_namespace: is_in_user_namespace(),
            lower_layers: LowerLayers::new(&options.lower_layers, private_prefix),
            layer,
            directory_times: HashMap::new(),
            write_back,
            unpacked: Unpacked::default(),
        })
    }

    fn add<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<(), UnpackError> {
        self.unpacked.entries += 1;
        self.unpacked.size_bytes = self.unpacked.size_bytes.saturating_add(entry.size_bytes);
        // The root itself is ignored: it belongs to whoever made the target (row B01).
        let Some(name) = Name::clean(&entry.path) else { return Ok(()) };
        let is_device = matches!(entry.kind, EntryKind::BlockDevice | EntryKind::CharacterDevice);
        if is_device && self.is_in_user_namespace {
            self.unpacked.skipped_entries += 1;
            return Ok(());
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(UnpackError::refused(&entry.path, "its name contains a NUL"));
        }
        let place = self.place(name)?;
        if place.base.starts_with(whiteout::PREFIX) {
            return self.add_whiteout(entry, &place);
        }
        self.create(entry, &place, archive)?;
        self.layer.add(&place.path);
        Ok(())
    }

    /// Finds, and if need be makes, the directory that an entry goes to.
    fn place(&mut self, name: Name) -> Result<Place, UnpackError> {
        let Self { root, lower_layers, directory_times, layer, .. } = self;
        let parent = root.directory(&name.parent, |made| {
            layer.add_directory(&made.path);
            if let Some(times) = lower_layers.copy_attributes(made)? {
                directory_times.insert(made.path.clone(), times);
            }
            Ok(())
        })?;
        let path = name::join(&parent.path, &name.base);
        let literal = name::join(&name.parent, &name.base);
        Ok(Place { parent, base: name.base, path, literal })
    }

    /// Removes what is where an entry goes. Says whether that was something else than a directory.
    fn clear(&mut self, place: &Place) -> Result<(), UnpackError> {
        let removed = remove::remove_tree(&*place.parent, &place.base)
            .map_err(UnpackError::system("replace", &place.path))?;
        // The way to directories that are open may have led through it.
        if matches!(removed, Some(fs::FileType::Directory | fs::FileType::Symlink)) {
            self.root.forget();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for (path, (accessed, modified)) in std::mem::take(&mut self.directory_times) {
            // What is no directory any more was replaced by a later entry.
            let Ok(directory) = self.root.open_exact(&path, flags) else { continue };
            fs::futimens(&directory, &timestamps(accessed, modified))
                .map_err(UnpackError::system("set the times of", &path))?;
        }
        let written_back = self.write_back.finish(self.sync);
        written_back.map_err(UnpackError::system("flush the filesystem of", b""))?;
        Ok(self.unpacked)
    }
}

#[cfg(test)]
mod tests;
