//! The file in a folder of trees or blobs that says which metadata database they belong to.

use std::{fs, io, path::Path};

use corten_database::StoreId;
use corten_disk::Disk;
use corten_types::{Error, Result};

/// The name of the file. A snapshotter with a database of its own has a `store-id` beside it.
pub(crate) const FILE_NAME: &str = "metadata-id";

/// No identity is longer; of a longer text a message shows the beginning.
const SHOWN_BYTES: usize = 64;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// To this database.
    Here,
    /// Nobody has said so yet, or the file was lost.
    Unknown,
    /// To another database, or the file is damaged.
    Elsewhere(String),
}

/// Compares the file in `folder` with the identity of the database.
pub(crate) fn compare(id: &StoreId, folder: &Path) -> Result<Belongs> {
    let path = folder.join(FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) if bytes.trim_ascii() == id.as_str().as_bytes() => Ok(Belongs::Here),
        Ok(bytes) => {
            let mut text = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
            text.truncate(text.floor_char_boundary(SHOWN_BYTES));
            Ok(Belongs::Elsewhere(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Belongs::Unknown),
        Err(error) => Err(Error::io(format!("metadata: cannot read {}", path.display()), error)),
    }
}

/// Writes the file, durably, unless it says so already.
pub(crate) fn adopt(id: &StoreId, disk: &Disk, folder: &Path) -> Result<()> {
    if compare(id, folder)? == Belongs::Here {
        return Ok(());
    }
    let path = folder.join(FILE_NAME);
    let failed = |error| Error::io(format!("metadata: cannot write {}", path.display()), error);
    disk.create_dir_all(folder, 0o700).map_err(failed)?;
    disk.replace_file(&path, format!("{id}\n").as_bytes(), 0o644).map_err(failed)
}
