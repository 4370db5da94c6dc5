//! What cannot be decided about a layer before the layers below it are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FileType, OFlags},
    io::Errno,
};

use super::{
    UnpackError, UnpackOptions, Unpacker,
    name::{Name, components},
    parents::{time_of_access, time_of_modification},
    root::{Directory, Root},
    sink::{Told, TreeSink},
    whiteout::opaque_name,
};
use crate::archive::Entry;

/// How much is kept of what is put off. A layer with more is refused, and can be unpacked when the layers below are there.
const MAX_DEFERRED_BYTES: usize = 32 << 20;

/// What keeping something costs beside its bytes.
const OVERHEAD_BYTES: usize = 200;

/// What is left to do for a layer that was unpacked before the layers below it were there.
///
/// Until [`Deferred::settle`] the folder is no layer yet. Layers are settled from the lowest to the highest; then their
/// folders are the same as if they had been unpacked one after the other.
#[derive(Debug, Default)]
pub struct Deferred {
    /// Directories that were made because a path led through them, and whether they got an entry of their own later.
    parents: BTreeMap<Vec<u8>, bool>,
    /// Whiteouts that may have nothing to hide.
    whiteouts: BTreeSet<Vec<u8>>,
    /// Directories that are opaque because they replaced such a whiteout.
    opaque: BTreeSet<Vec<u8>>,
    /// Hard links to what the layer itself does not have, in order.
    links: Vec<Link>,
    /// Those that nothing has replaced, by their names.
    link_at: BTreeMap<Vec<u8>, usize>,
    kept_bytes: usize,
}

#[derive(Debug)]
struct Link {
    entry: Entry,
    path: Vec<u8>,
}

impl Deferred {
    /// Whether the layer is complete as it is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of things that are left to do.
    pub fn len(&self) -> usize {
        self.parents.len() + self.whiteouts.len() + self.opaque.len() + self.links.len()
    }

    /// Does what is left, now that `lower_layers`, the nearest first, are complete. `root` and `options` are those of the
    /// unpack; `sink` is told what changes.
    ///
    /// # Errors
    /// As those of an unpack. What was done before stays; the layer is of no use.
    pub fn settle(
        self,
        root: &Path,
        lower_layers: &[PathBuf],
        options: &UnpackOptions,
        sink: Option<&mut dyn TreeSink>,
    ) -> Result<(), UnpackError> {
        if self.is_empty() {
            return Ok(());
        }
        let root = Root::open(root).map_err(UnpackError::system("open the target", b""))?;
        let options = UnpackOptions { lower_layers: lower_layers.to_vec(), ..options.clone() };
        let mut unpacker = Unpacker::new(root, &options, Told(sink), None)?;
        self.keep_times(&mut unpacker)?;
        for path in &self.opaque {
            take_opaque(&mut unpacker, path).map_err(UnpackError::system("settle", path))?;
        }
        for path in &self.whiteouts {
            take_whiteout(&mut unpacker, path).map_err(UnpackError::system("settle", path))?;
        }
        for (path, has_entry) in &self.parents {
            settle_parent(&mut unpacker, path, *has_entry)?;
        }
        for (number, link) in self.links.iter().enumerate() {
            let is_wanted = self.link_at.get(&link.path) == Some(&number);
            settle_link(&mut unpacker, link, is_wanted)?;
        }
        unpacker.finish().map(drop)
    }

    /// Notes the times of every directory in which something is about to change.
    fn keep_times(&self, unpacker: &mut Unpacker<'_>) -> Result<(), UnpackError> {
        let changed = self.whiteouts.iter().chain(self.links.iter().map(|link| &link.path));
        let directories: BTreeSet<&[u8]> =
            changed.map(|path| parent_of(path)).chain(self.parents.keys().map(Vec::as_slice)).collect();
        for path in directories {
            let failed = || UnpackError::system("look at", path);
            let Some(directory) = open_directory(&unpacker.root, path).map_err(failed())? else { continue };
            let stat = fs::fstat(&directory).map_err(failed())?;
            let times = (time_of_access(&stat), time_of_modification(&stat));
            unpacker.times.push(&unpacker.root, path, times)?;
        }
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.kept_bytes += bytes + OVERHEAD_BYTES;
        if self.kept_bytes > MAX_DEFERRED_BYTES {
            let what = "bytes of what depends on the layers below";
            return Err(UnpackError::TooLarge { limit: MAX_DEFERRED_BYTES as u64, what });
        }
        Ok(())
    }

    pub(crate) fn add_parent(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.parents.insert(path.to_vec(), false);
        self.grow(path.len())
    }

    /// The layer has an entry for a directory.
    pub(crate) fn has_entry(&mut self, path: &[u8]) {
        if let Some(has_entry) = self.parents.get_mut(path) {
            *has_entry = true;
        }
    }

    pub(crate) fn add_whiteout(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.whiteouts.insert(path.to_vec());
        self.grow(path.len())
    }

    pub(crate) fn has_whiteout(&self, path: &[u8]) -> bool {
        self.whiteouts.contains(path)
    }

    pub(crate) fn add_opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.opaque.insert(path.to_vec());
        self.grow(path.len())
    }

    /// A marker says that a directory is opaque, whatever it replaced.
    pub(crate) fn is_opaque_anyway(&mut self, path: &[u8]) {
        self.opaque.remove(path);
    }

    pub(crate) fn add_link(&mut self, entry: &Entry, path: &[u8]) -> Result<(), UnpackError> {
        let mut entry = entry.clone();
        let target = components(&entry.link).collect::<Vec<_>>().join(&b'/');
        if let Some(first) = self.link_at.get(&target) {
            // The first of several names may be replaced before any of them is made.
            entry.link.clone_from(&self.links[*first].entry.link);
        }
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = 2 * path.len() + entry.link.len() + xattrs;
        self.link_at.insert(path.to_vec(), self.links.len());
        self.links.push(Link { entry, path: path.to_vec() });
        self.grow(bytes)
    }

    /// Something else comes where a hard link should be. Says whether one should.
    pub(crate) fn replace_link(&mut self, path: &[u8]) -> bool {
        self.link_at.remove(path).is_some()
    }

    /// What is at `path`, and below it, was removed or replaced.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.parents.remove(path);
        self.whiteouts.remove(path);
        self.opaque.remove(path);
        self.link_at.remove(path);
        let below = [path, b"/"].concat();
        while let Some(known) =
            first_below(self.parents.range(below.clone()..).map(|(known, _)| known), &below)
        {
            self.parents.remove(&known);
        }
        while let Some(known) =
            first_below(self.link_at.range(below.clone()..).map(|(known, _)| known), &below)
        {
            self.link_at.remove(&known);
        }
        for set in [&mut self.whiteouts, &mut self.opaque] {
            while let Some(known) = first_below(set.range(below.clone()..), &below) {
                set.remove(&known);
            }
        }
    }
}

fn first_below<'a>(mut known: impl Iterator<Item = &'a Vec<u8>>, below: &[u8]) -> Option<Vec<u8>> {
    known.next().filter(|known| known.starts_with(below)).cloned()
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

fn open_directory(root: &Root, path: &[u8]) -> Result<Option<std::os::fd::OwnedFd>, Errno> {
    match root.open_exact(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A directory that replaced a whiteout with nothing to hide need not hide anything either.
fn take_opaque(unpacker: &mut Unpacker<'_>, path: &[u8]) -> Result<(), Errno> {
    if unpacker.lower_layers.may_show(parent_of(path))? {
        return Ok(());
    }
    let (Some(directory), Some(name)) =
        (open_directory(&unpacker.root, path)?, opaque_name(unpacker.whiteouts))
    else {
        return Ok(());
    };
    match fs::fremovexattr(&directory, name) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A whiteout with nothing to hide would be listed.
fn take_whiteout(unpacker: &mut Unpacker<'_>, path: &[u8]) -> Result<(), Errno> {
    if unpacker.lower_layers.may_show(parent_of(path))? {
        return Ok(());
    }
    let Some(parent) = open_directory(&unpacker.root, parent_of(path))? else { return Ok(()) };
    let base = &path[path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)..];
    let stat = match fs::statat(&parent, base, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        outcome => outcome?,
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0 {
        fs::unlinkat(&parent, base, AtFlags::empty())?;
        unpacker.told.remove(path);
    }
    Ok(())
}

/// Makes a link. One that was replaced meanwhile has changed its target all the same.
fn settle_link(unpacker: &mut Unpacker<'_>, link: &Link, is_wanted: bool) -> Result<(), UnpackError> {
    let Link { entry, path } = link;
    if !is_wanted {
        return unpacker.change_link_target(entry);
    }
    let Some(name) = Name::clean(path) else { return Ok(()) };
    let place = unpacker.place(name)?;
    if fs::statat(&*place.parent, place.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(UnpackError::refused(path, "it is a hard link to a file, and something is below it"));
    }
    unpacker.create_hard_link(entry, &place)
}

fn settle_parent(unpacker: &mut Unpacker<'_>, path: &[u8], has_entry: bool) -> Result<(), UnpackError> {
    let failed = || UnpackError::system("settle", path);
    let Some(descriptor) = open_directory(&unpacker.root, path).map_err(failed())? else { return Ok(()) };
    let directory = Directory::new(descriptor, path.to_vec());
    if has_entry {
        return unpacker.lower_layers.copy_missing_xattrs(&directory);
    }
    if let Some(times) = unpacker.lower_layers.copy_attributes(&directory)? {
        unpacker.times.push(&unpacker.root, path, times)?;
    }
    Ok(())
}
