//! The marker beside the database: which generation was last opened, and whether it was closed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use corten_disk::Disk;
use corten_types::{Error, Result};

use crate::store_id::StoreId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) store_id: StoreId,
    pub(crate) generation: u64,
    /// The number of the last commit, if the database was closed.
    pub(crate) closed_at: Option<u64>,
}

/// `path` with `suffix` appended to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

const HEADER: &str = "corten database marker 1";

impl Marker {
    pub(crate) fn path(database: &Path) -> PathBuf {
        beside(database, ".marker")
    }

    /// Reads the marker of `database`; none if there is none.
    pub(crate) fn read(database: &Path) -> Result<Option<Self>> {
        let path = Self::path(database);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()), error)),
        };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(Self::parse);
        match parsed {
            Some(marker) => Ok(Some(marker)),
            None => Err(Error::data_loss(format!("{} is damaged", path.display()))),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.trim_end().rsplit_once('\n')?;
        if sum != checksum_line(body) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != HEADER {
            return None;
        }
        let store_id = lines.next()?.strip_prefix("store ")?.parse().ok()?;
        let generation = lines.next()?.strip_prefix("generation ")?.parse().ok()?;
        let closed_at = match lines.next()? {
            "open" => None,
            line => Some(line.strip_prefix("closed at commit ")?.parse().ok()?),
        };
        Some(Self { store_id, generation, closed_at })
    }

    pub(crate) fn write(&self, disk: &Disk, database: &Path) -> Result<()> {
        let state = match self.closed_at {
            None => "open".to_owned(),
            Some(commit) => format!("closed at commit {commit}"),
        };
        let body = format!("{HEADER}\nstore {}\ngeneration {}\n{state}", self.store_id, self.generation);
        let text = format!("{body}\n{}\n", checksum_line(&body));
        let path = Self::path(database);
        disk.replace_file(&path, text.as_bytes(), 0o600)
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }
}

fn checksum_line(body: &str) -> String {
    format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes()))
}
