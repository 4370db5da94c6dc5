//! What goes into the layers of an image.

use std::{
    fs::Metadata,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A made-up file.
#[derive(Clone, Copy, Debug)]
struct Made {
    layer: usize,
    number: usize,
    size_bytes: usize,
}

/// One layer's content.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// These files of this machine, below `/`.
    Files(Vec<PathBuf>),
    /// Files of one size, in folders of a hundred.
    Made { layer: usize, files: usize, size_bytes: usize },
}

/// The layers of an image, the lowest first.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// Names the image, and what is kept of it.
    pub(super) name: String,
    pub(super) layers: Vec<Content>,
}

impl Recipe {
    /// Four layers of about `bytes` bytes and `files` files together, of this machine's `/usr`.
    pub(super) fn usr(files: usize, bytes: u64) -> anyhow::Result<Self> {
        let mut chosen = Vec::new();
        let mut total = 0;
        let mut folders = vec![PathBuf::from("/usr")];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<PathBuf> = std::fs::read_dir(&folder)
                .with_context(|| format!("read {}", folder.display()))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect();
            entries.sort();
            for path in entries {
                let Ok(metadata) = path.symlink_metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(path);
                } else if is_wanted(&metadata) && chosen.len() < files {
                    // Large files wait until small ones have made room for them: both sums come out.
                    let allowed =
                        bytes as f64 * (chosen.len() + 1) as f64 / files as f64 + bytes as f64 / 40.0;
                    if (total + metadata.len()) as f64 <= allowed {
                        total += metadata.len();
                        chosen.push(path);
                    }
                }
            }
        }
        let layers = chosen.chunks(chosen.len().div_ceil(4)).map(|part| Content::Files(part.to_vec()));
        Ok(Self { name: format!("usr-{files}-{bytes}"), layers: layers.collect() })
    }

    /// `layers` layers of `files` files of `size_bytes` bytes each.
    pub(super) fn made(layers: usize, files: usize, size_bytes: usize) -> Self {
        Self {
            name: format!("made-{layers}-{files}-{size_bytes}"),
            layers: (0..layers).map(|layer| Content::Made { layer, files, size_bytes }).collect(),
        }
    }
}

fn is_wanted(metadata: &Metadata) -> bool {
    metadata.is_file() || metadata.is_symlink()
}

impl Content {
    /// Writes the layer as a tar archive and returns how many entries it has.
    pub(super) fn write(&self, target: impl Write) -> anyhow::Result<usize> {
        let mut archive = Archive { builder: tar::Builder::new(target), folder: PathBuf::new(), entries: 0 };
        archive.builder.follow_symlinks(false);
        match self {
            Self::Files(paths) => {
                for path in paths {
                    archive.real(path)?;
                }
            }
            &Self::Made { layer, files, size_bytes } => {
                for number in 0..files {
                    archive.made(Made { layer, number, size_bytes })?;
                }
            }
        }
        archive.builder.into_inner()?.flush()?;
        Ok(archive.entries)
    }
}

struct Archive<W: Write> {
    builder: tar::Builder<W>,
    /// The last folder that was written.
    folder: PathBuf,
    entries: usize,
}

impl<W: Write> Archive<W> {
    fn real(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = path.strip_prefix("/").context("an absolute path")?;
        self.parents(name.parent().unwrap_or(Path::new("")))?;
        let metadata = path.symlink_metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_mode(metadata.mode() & 0o7777);
        if metadata.is_symlink() {
            header.set_size(0);
            self.builder.append_link(&mut header, name, std::fs::read_link(path)?)?;
        } else {
            self.builder.append_data(&mut header, name, std::fs::File::open(path)?)?;
        }
        self.entries += 1;
        Ok(())
    }

    fn made(&mut self, Made { layer, number, size_bytes }: Made) -> anyhow::Result<()> {
        let folder = PathBuf::from(format!("made/{layer}/{}", number / 100));
        self.parents(&folder)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(size_bytes as u64);
        let bytes = text(layer * 1_000_003 + number, size_bytes);
        self.builder.append_data(&mut header, folder.join(number.to_string()), &bytes[..])?;
        self.entries += 1;
        Ok(())
    }

    /// Writes the folders above an entry that were not written for the one before.
    fn parents(&mut self, folder: &Path) -> anyhow::Result<()> {
        let known: Vec<&Path> = self.folder.ancestors().collect();
        let new: Vec<&Path> = folder.ancestors().filter(|part| !known.contains(part)).collect();
        for part in new.into_iter().rev() {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_mtime(1_700_000_000);
            header.set_size(0);
            self.builder.append_data(&mut header, part, std::io::empty())?;
            self.entries += 1;
        }
        self.folder = folder.to_owned();
        Ok(())
    }
}

/// Bytes that compress about as well as programs do: half of them repeat.
pub(super) fn text(seed: usize, length: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b" like it ");
    }
    bytes.truncate(length);
    bytes
}
