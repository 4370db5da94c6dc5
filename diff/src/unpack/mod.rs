//! Unpacking a layer into a directory (OCI image-spec layer.md, rows B01 to B15).
//!
//! This module knows nothing of content stores and mounts: it takes an archive as a stream, and a directory.

mod attributes;
mod copy_up;
mod create;
mod deferred;
mod error;
mod finish;
mod layer;
mod name;
mod parents;
mod remove;
mod root;
mod sink;
mod times;
mod whiteout;
mod write_back;

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    rc::Rc,
};

pub use deferred::Deferred;
pub use error::UnpackError;
pub(crate) use error::shown;
pub(crate) use name::join;
pub(crate) use remove::{is_empty, remove_contents};
pub(crate) use root::Root;
use rustix::{
    fs::{self, Mode},
    process::umask,
    thread::{UnshareFlags, unshare_unsafe},
};
pub use sink::{Placed, TreeObserver, TreeSink};

use self::{
    attributes::Setter, finish::Finishers, layer::LayerContents, name::Name, parents::LowerLayers,
    root::Directory, sink::Told, times::DirectoryTimes, write_back::WriteBack,
};
use crate::archive::{Entry, EntryKind, Reader};

/// How long a name in an archive may be; the kernel takes no longer ones.
const MAX_NAME_BYTES: usize = 4096;

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
    /// How many threads fill small files while others are made, at most 3. By default those processors that reading,
    /// hashing and parsing one layer leave idle: with two processors it takes longer with such a thread than without.
    pub file_threads: usize,
    /// How many entries a layer may have.
    pub max_entries: u64,
    /// How many bytes the files of a layer may have together, holes included.
    pub max_bytes: u64,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Remove,
            lower_layers: Vec::new(),
            same_owner: true,
            sync: false,
            write_back_bytes: 256 << 20,
            file_threads: finish::idle_processors(),
            max_entries: 50_000_000,
            max_bytes: 1 << 40,
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
/// Broken archives, entries that are refused, layers that are larger than they may be, and failures of the system. What
/// was unpacked before stays.
pub fn unpack(reader: impl BufRead, root: &Path, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    run(reader, root, options, None, None).map(|(unpacked, _)| unpacked)
}

/// The same; `sink` is told what is put where, and is not finished.
///
/// # Errors
/// Those of [`unpack`].
pub fn unpack_with(
    reader: impl BufRead,
    root: &Path,
    options: &UnpackOptions,
    sink: Option<&mut dyn TreeSink>,
) -> Result<Unpacked, UnpackError> {
    run(reader, root, options, sink, None).map(|(unpacked, _)| unpacked)
}

/// The same for an upper directory of overlayfs whose lower layers are not there yet: several layers of an image can be
/// unpacked at once. What depends on the layers below is given back; [`Deferred::settle`] does it when they are there.
/// `options.lower_layers` is not used.
///
/// # Errors
/// Those of [`unpack`]. Besides, a layer may need the layers below to make sense, for example one that puts something below
/// a name that it has deleted: a layer that fails is to be unpacked again, into an empty folder, when they are there.
pub fn unpack_before_parents(
    reader: impl BufRead,
    root: &Path,
    options: &UnpackOptions,
    sink: Option<&mut dyn TreeSink>,
) -> Result<(Unpacked, Deferred), UnpackError> {
    let options = UnpackOptions { lower_layers: Vec::new(), ..options.clone() };
    let deferred = matches!(options.whiteouts, Whiteouts::Overlay { .. }).then(Deferred::default);
    let (unpacked, deferred) = run(reader, root, &options, sink, deferred)?;
    Ok((unpacked, deferred.unwrap_or_default()))
}

/// Gives this thread a umask of its own, which takes nothing away: files then are made with their modes. To be called
/// by threads that nobody else uses.
pub(crate) fn clear_umask() {
    // SAFETY: only what this thread shares of the file system's state is taken apart: umask, root and current folder.
    if unsafe { unshare_unsafe(UnshareFlags::FS) }.is_ok() {
        umask(Mode::empty());
        OWN_UMASK.set(true);
    }
}

thread_local! {
    /// Whether this thread has a umask of its own, which takes nothing away.
    static OWN_UMASK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn run(
    reader: impl BufRead,
    root: &Path,
    options: &UnpackOptions,
    sink: Option<&mut dyn TreeSink>,
    deferred: Option<Deferred>,
) -> Result<(Unpacked, Option<Deferred>), UnpackError> {
    let root = Root::open(root).map_err(UnpackError::system("open the target", b""))?;
    let mut archive = Reader::new(reader);
    let mut unpacker = Unpacker::new(root, options, Told(sink), deferred)?;
    let outcome = unpacker.add_all(&mut archive);
    if outcome.is_err() {
        // What came before the error is whole. That one is told, not those that follow from it.
        let _ = unpacker.finishers.drain(&mut unpacker.told);
    }
    outcome?;
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

struct Unpacker<'a> {
    root: Root,
    whiteouts: Whiteouts,
    setter: Setter,
    sync: bool,
    umask_is_clear: bool,
    max_entries: u64,
    max_bytes: u64,
    counted_bytes: u64,
    lower_layers: LowerLayers,
    /// What waits for the layers below, if they are not there.
    deferred: Option<Deferred>,
    /// Which of what lies in the target came with this layer.
    layer: LayerContents,
    times: DirectoryTimes,
    finishers: Finishers,
    told: Told<'a>,
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

impl<'a> Unpacker<'a> {
    fn new(
        root: Root,
        options: &UnpackOptions,
        told: Told<'a>,
        deferred: Option<Deferred>,
    ) -> Result<Self, UnpackError> {
        let is_of_user_overlay = options.whiteouts == (Whiteouts::Overlay { user_xattrs: true });
        let private_prefix = is_of_user_overlay.then_some(b"user.overlay.".as_slice());
        let failed = |doing| UnpackError::system(doing, b"");
        let layer = match options.whiteouts {
            Whiteouts::Overlay { .. } => LayerContents::untracked(),
            Whiteouts::Remove => LayerContents::of(&root).map_err(failed("list the target"))?,
        };
        let write_back =
            WriteBack::new(&root, options.write_back_bytes).map_err(failed("open the target"))?;
        let setter = Setter {
            same_owner: options.same_owner,
            is_of_user_overlay,
            is_in_user_namespace: is_in_user_namespace(),
        };
        Ok(Self {
            root,
            whiteouts: options.whiteouts,
            setter,
            sync: options.sync,
            umask_is_clear: OWN_UMASK.get(),
            max_entries: options.max_entries,
            max_bytes: options.max_bytes,
            counted_bytes: 0,
            lower_layers: LowerLayers::new(&options.lower_layers, private_prefix),
            deferred,
            layer,
            times: DirectoryTimes::default(),
            finishers: Finishers::new(setter, told.is_wanted(), options.file_threads),
            told,
            write_back,
            unpacked: Unpacked::default(),
        })
    }

    fn add_all<R: BufRead>(&mut self, archive: &mut Reader<R>) -> Result<(), UnpackError> {
        while let Some(entry) = archive.next_entry()? {
            self.add(entry, archive)?;
        }
        Ok(())
    }

    fn add<R: BufRead>(&mut self, entry: Entry, archive: &mut Reader<R>) -> Result<(), UnpackError> {
        self.unpacked.entries += 1;
        self.unpacked.size_bytes = self.unpacked.size_bytes.saturating_add(entry.size_bytes);
        if self.unpacked.entries > self.max_entries {
            return Err(UnpackError::TooLarge { limit: self.max_entries, what: "entries" });
        }
        if entry.kind == EntryKind::File {
            self.count(entry.size_bytes)?;
        }
        // The root itself is ignored: it belongs to whoever made the target (row B01).
        let Some(name) = Name::clean(&entry.path) else { return Ok(()) };
        let is_device = matches!(entry.kind, EntryKind::BlockDevice | EntryKind::CharacterDevice);
        if is_device && self.setter.is_in_user_namespace {
            self.unpacked.skipped_entries += 1;
            return Ok(());
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(UnpackError::refused(&entry.path, "its name contains a NUL"));
        }
        if entry.path.len() > MAX_NAME_BYTES || entry.link.len() > MAX_NAME_BYTES {
            return Err(UnpackError::refused(&entry.path, "its name or its target has more than 4096 bytes"));
        }
        let place = self.place(name)?;
        if place.base.starts_with(whiteout::PREFIX) {
            return self.add_whiteout(&entry, &place);
        }
        self.create(entry, &place, archive)?;
        self.layer.add(&place.path);
        Ok(())
    }

    /// Counts what a file has.
    fn count(&mut self, size_bytes: u64) -> Result<(), UnpackError> {
        self.counted_bytes = self.counted_bytes.saturating_add(size_bytes);
        if self.counted_bytes > self.max_bytes {
            return Err(UnpackError::TooLarge { limit: self.max_bytes, what: "bytes in its files" });
        }
        Ok(())
    }

    /// Finds, and if need be makes, the directory that an entry goes to.
    fn place(&mut self, name: Name) -> Result<Place, UnpackError> {
        let Self { root, lower_layers, times, layer, told, deferred, .. } = self;
        let mut made_times = Vec::new();
        let parent = root.directory(&name.parent, |made| {
            layer.add_directory(&made.path);
            told.put(&made.path, Placed::Directory);
            if let Some(deferred) = deferred {
                return deferred.add_parent(&made.path);
            }
            if let Some(times) = lower_layers.copy_attributes(made)? {
                made_times.push((made.path.clone(), times));
            }
            Ok(())
        })?;
        for (path, of_lower) in made_times {
            times.push(root, &path, of_lower)?;
        }
        let path = name::join(&parent.path, &name.base);
        let literal = name::join(&name.parent, &name.base);
        Ok(Place { parent, base: name.base, path, literal })
    }

    /// Removes what is where an entry goes.
    fn clear(&mut self, place: &Place) -> Result<(), UnpackError> {
        // What is told of files that are still to be finished must not come after their removal.
        self.finishers.drain(&mut self.told)?;
        let removed = remove::remove_tree(&*place.parent, &place.base)
            .map_err(UnpackError::system("replace", &place.path))?;
        if let Some(deferred) = &mut self.deferred {
            deferred.forget(&place.path);
        }
        if removed.is_some() {
            self.told.remove(&place.path);
        }
        // The way to directories that are open may have led through it.
        if matches!(removed, Some(fs::FileType::Directory | fs::FileType::Symlink)) {
            self.root.forget();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Unpacked, Option<Deferred>), UnpackError> {
        self.finishers.drain(&mut self.told)?;
        self.times.replay(&self.root)?;
        let written_back = self.write_back.finish(self.sync);
        written_back.map_err(UnpackError::system("flush the filesystem of", b""))?;
        self.unpacked.skipped_xattrs += self.finishers.skipped_xattrs;
        Ok((self.unpacked, self.deferred))
    }
}

#[cfg(test)]
mod tests;
