//! The identity of a store: the same in the database and in a file beside what its rows speak of.

use std::{fmt, fs, io, path::Path, str::FromStr};

use corten_disk::Disk;
use corten_types::{Error, Result};

/// The identity of a store, made at random with its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(String);

/// What the file beside trees or blobs says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreIdFile {
    /// The trees belong to the database.
    Same,
    /// There is no file: the folder is new, or somebody removed it.
    Absent,
    /// The trees belong to another database, or the file is damaged. Nothing there may be removed for want of a row.
    Other(String),
}

impl StoreId {
    /// The name of the file in a folder of trees or blobs.
    pub const FILE_NAME: &'static str = "store-id";

    const LENGTH: usize = 32;

    /// The identity as text: 32 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares the file in `folder` with this identity.
    ///
    /// # Errors
    /// Those of reading; a missing file or folder is [`StoreIdFile::Absent`].
    pub fn compare(&self, folder: &Path) -> Result<StoreIdFile> {
        let path = folder.join(Self::FILE_NAME);
        match fs::read(&path) {
            Ok(bytes) if bytes.trim_ascii() == self.0.as_bytes() => Ok(StoreIdFile::Same),
            Ok(bytes) => {
                let mut text = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
                text.truncate(text.floor_char_boundary(2 * Self::LENGTH));
                Ok(StoreIdFile::Other(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoreIdFile::Absent),
            Err(error) => Err(Error::io(format!("cannot read {}", path.display()), error)),
        }
    }

    /// Writes the file into `folder`, durably, replacing one that is there.
    ///
    /// # Errors
    /// Those of the disk; the file is the old one, or the new one.
    pub fn write(&self, disk: &Disk, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE_NAME);
        disk.replace_file(&path, format!("{}\n", self.0).as_bytes(), 0o644)
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for StoreId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let valid =
            text.len() == Self::LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text.to_owned())) } else { Err(Error::data_loss("the store id is damaged")) }
    }
}
