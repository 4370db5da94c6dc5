//! Trees, described so that two can be compared.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

/// Everything about every file below a directory, by its path. Times of the directory itself are left out.
pub(crate) type Tree = BTreeMap<String, String>;

pub(crate) fn describe(root: &Path) -> Tree {
    describe_without(root, None)
}

/// The same without one file or directory and what is below it, which others may be changing.
pub(crate) fn describe_without(root: &Path, left_out: Option<&Path>) -> Tree {
    let mut tree = Tree::new();
    let mut first_names = BTreeMap::new();
    add(root, Path::new(""), left_out, &mut tree, &mut first_names).unwrap();
    tree
}

fn add(
    root: &Path,
    below: &Path,
    left_out: Option<&Path>,
    tree: &mut Tree,
    first_names: &mut BTreeMap<u64, String>,
) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(below))?.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        if left_out == Some(path.as_path()) {
            continue;
        }
        let shown = path.as_os_str().as_bytes().escape_ascii().to_string();
        let full = root.join(&path);
        let data = fs::symlink_metadata(&full)?;
        let kind = data.file_type();
        let mut text = format!(
            "{:o} {}:{} {}.{:09}",
            data.mode(),
            data.uid(),
            data.gid(),
            data.mtime(),
            data.mtime_nsec()
        );
        if !kind.is_dir() && data.nlink() > 1 {
            let first = first_names.entry(data.ino()).or_insert_with(|| shown.clone());
            text += &format!(" linked to {first}");
        }
        if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(&full)?.display());
        } else if kind.is_file() {
            let contents = fs::read(&full)?;
            text += &format!(" {} bytes {:08x}", contents.len(), sum(&contents));
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!(" device {}", data.rdev());
        }
        let mut attributes: Vec<_> = xattr::list(&full)?.collect();
        attributes.sort();
        for name in attributes {
            let value = xattr::get(&full, &name)?.unwrap_or_default();
            text += &format!(" {}={}", name.to_string_lossy(), value.escape_ascii());
        }
        tree.insert(shown, text);
        if kind.is_dir() {
            add(root, &path, left_out, tree, first_names)?;
        }
    }
    Ok(())
}

fn sum(data: &[u8]) -> u32 {
    data.iter().fold(2_166_136_261, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(16_777_619))
}

/// The names only.
pub(crate) fn names(root: &Path) -> Vec<String> {
    describe(root).into_keys().collect()
}
