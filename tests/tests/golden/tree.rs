//! Everything about every file of a tree, in words.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use crate::sha256;

pub(crate) type Tree = BTreeMap<String, Description>;

/// Everything about a file, in words: the mode, the owner and the time come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description(String);

impl Description {
    /// Whether it is a folder that was changed while it was made.
    pub(crate) fn is_new_folder(&self) -> bool {
        self.0.starts_with("4") && self.0.split(' ').nth(2) == Some(NOW)
    }

    pub(crate) fn without_time(&self) -> Vec<&str> {
        self.0.split(' ').enumerate().filter(|(number, _)| *number != 2).map(|(_, word)| word).collect()
    }
}

/// A time that depends on when something was made.
const NOW: &str = "now";

/// Archives say nothing later than this; what is later is the moment at which something was made.
const LATEST_ARCHIVED_SECOND: i64 = 1_700_000_000;

pub(crate) fn describe(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first_names = BTreeMap::new();
    add(root, Path::new(""), &mut tree, &mut first_names);
    tree
}

fn add(root: &Path, below: &Path, tree: &mut Tree, first_names: &mut BTreeMap<u64, String>) {
    let mut names: Vec<_> =
        fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let shown = path.as_os_str().as_bytes().escape_ascii().to_string();
        let full = root.join(&path);
        let data = fs::symlink_metadata(&full).unwrap();
        let time = match data.mtime() {
            late if late > LATEST_ARCHIVED_SECOND => NOW.to_owned(),
            second => format!("{second}.{:09}", data.mtime_nsec()),
        };
        let mut text = format!("{:o} {}:{} {time}", data.mode(), data.uid(), data.gid());
        if !data.is_dir() {
            let first = first_names.entry(data.ino()).or_insert_with(|| shown.clone());
            text += &format!(" {} names, the first {first}", data.nlink());
        }
        if data.is_symlink() {
            text += &format!(" -> {}", fs::read_link(&full).unwrap().as_os_str().as_bytes().escape_ascii());
        } else if data.is_file() {
            let contents = fs::read(&full).unwrap();
            let holes = data.blocks() * 512 < data.len();
            text += &format!(" {} bytes {} holes {holes}", contents.len(), &sha256(&contents)[..23]);
        } else if !data.is_dir() {
            text += &format!(" device {:x}", data.rdev());
        }
        let mut attributes: Vec<_> = xattr::list(&full).unwrap().collect();
        attributes.sort();
        for name in attributes {
            let value = xattr::get(&full, &name).unwrap().unwrap_or_default();
            text += &format!(" {}={}", name.to_string_lossy(), value.escape_ascii());
        }
        tree.insert(shown, Description(text));
        if data.is_dir() {
            add(root, &path, tree, first_names);
        }
    }
}
