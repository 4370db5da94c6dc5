//! Which of what lies in the target came with the layer. An opaque marker spares that, wherever it stands in the archive
//! (row B05).

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, OFlags},
    io::Errno,
};

use super::{UnpackError, name::join, remove::remove_tree, root::Root};

/// How many names are remembered. A layer that has more in directories that were there before it, and an opaque marker
/// after them, is refused.
const MAX_REMEMBERED: usize = 1 << 20;

/// What came with the layer. Nothing is kept where nothing else can be: in an empty target, in directories that the layer
/// made, and below markers that were applied. So memory is bounded by what the target already had, and the time of all
/// markers together by the size of the tree.
pub(crate) struct LayerContents {
    /// Nothing is ever removed: opaque markers are expressed otherwise, or everything came with the layer.
    is_untracked: bool,
    /// Directories in which everything came with the layer.
    own: Names,
    /// What the layer put into other directories, and what leads there.
    entries: Names,
    limit: usize,
    is_over_limit: bool,
    /// How many files were looked at for opaque markers.
    #[cfg(test)]
    pub(crate) looked_at: u64,
}

impl LayerContents {
    pub(crate) fn untracked() -> Self {
        Self::new(true)
    }

    pub(crate) fn of(root: &Root) -> Result<Self, Errno> {
        let is_empty = children(&Dir::read_from(root)?)?.is_empty();
        Ok(Self::new(is_empty))
    }

    fn new(is_untracked: bool) -> Self {
        Self {
            is_untracked,
            own: Names::default(),
            entries: Names::default(),
            limit: MAX_REMEMBERED,
            is_over_limit: false,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// The layer made or changed `path`.
    pub(crate) fn add(&mut self, path: &[u8]) {
        if self.is_untracked || self.is_over_limit {
            return;
        }
        if self.own.0.len() + self.entries.0.len() >= self.limit {
            self.is_over_limit = true;
            (self.own, self.entries) = (Names::default(), Names::default());
            return;
        }
        let mut path = path;
        loop {
            let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let parent = &path[..cut];
            // What leads to a known entry is known.
            if self.own.contains(parent) || !self.entries.insert(path) || parent.is_empty() {
                return;
            }
            path = parent;
        }
    }

    /// The layer made the directory `path`, which was not there before.
    pub(crate) fn add_directory(&mut self, path: &[u8]) {
        if self.is_untracked || self.is_over_limit {
            return;
        }
        self.add(path);
        self.own.insert(path);
    }

    /// Removes from the directory `top`, and from directories below it, what did not come with the layer.
    pub(crate) fn remove_others(&mut self, root: &Root, top: &[u8]) -> Result<(), UnpackError> {
        if self.is_untracked {
            return Ok(());
        }
        if self.is_over_limit {
            let what = "names beside files that were there before, and an opaque marker";
            return Err(UnpackError::TooLarge { limit: self.limit as u64, what });
        }
        self.remove_unknown(root, top).map_err(UnpackError::system("empty", top))
    }

    fn remove_unknown(&mut self, root: &Root, top: &[u8]) -> Result<(), Errno> {
        let mut queue = vec![top.to_vec()];
        while let Some(path) = queue.pop() {
            if self.own.contains(&path) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = root.open_exact(&path, flags)?;
            for name in children(&Dir::read_from(&directory)?)? {
                #[cfg(test)]
                {
                    self.looked_at += 1;
                }
                let child = join(&path, &name);
                if !self.entries.contains(&child) {
                    remove_tree(&directory, &name)?;
                    continue;
                }
                let stat = fs::statat(&directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    queue.push(child);
                }
            }
            self.own.insert(&path);
        }
        Ok(())
    }
}

/// Names, by keyed hashes that are too long to meet by chance or on purpose: a name of any length takes 16 bytes.
#[derive(Default)]
struct Names(HashSet<u128>, RandomState, RandomState);

impl Names {
    fn hash(&self, name: &[u8]) -> u128 {
        u128::from(self.1.hash_one(name)) << 64 | u128::from(self.2.hash_one(name))
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.0.contains(&self.hash(name))
    }

    fn insert(&mut self, name: &[u8]) -> bool {
        let hash = self.hash(name);
        self.0.insert(hash)
    }
}

fn children(directory: &Dir) -> Result<Vec<Vec<u8>>, Errno> {
    let mut listing = Dir::read_from(directory.fd()?)?;
    let mut names = Vec::new();
    while let Some(entry) = listing.read() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
