//! The marker beside the database: which generation was last opened, of which schema, and whether it was closed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use corten_disk::Disk;
use corten_types::{Error, Result};

use crate::{record::Record, store_id::StoreId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) store_id: StoreId,
    pub(crate) generation: u64,
    /// None in markers of format 1.
    pub(crate) schema: Option<Schema>,
    /// The number of the last commit, if the database was closed.
    pub(crate) closed_at: Option<u64>,
}

/// The version of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    Is(usize),
    /// Migrations are being run.
    UpTo(usize),
}

/// `path` with `suffix` appended to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

const HEADER: &str = "corten database marker 2";

/// Without a line for the schema, and of programs that cut the log to nothing while they ran.
const HEADER_1: &str = "corten database marker 1";

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
        let has_schema = match lines.next()? {
            HEADER => true,
            HEADER_1 => false,
            _ => return None,
        };
        let store_id = lines.next()?.strip_prefix("store ")?.parse().ok()?;
        let generation = lines.next()?.strip_prefix("generation ")?.parse().ok()?;
        let schema = if has_schema { Some(Schema::parse(lines.next()?)?) } else { None };
        let closed_at = match lines.next()? {
            "open" => None,
            line => Some(line.strip_prefix("closed at commit ")?.parse().ok()?),
        };
        Some(Self { store_id, generation, schema, closed_at })
    }

    /// Whether the log must be there, with a commit in it: the one that began the generation, and nothing cuts it to nothing.
    pub(crate) fn promises_a_log(&self) -> bool {
        self.schema.is_some() && self.closed_at.is_none()
    }

    /// Whether it was written for the database that says `record` of itself, at its last open or close.
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        let generations = self.generation..=self.generation + 1;
        self.store_id == record.store_id && generations.contains(&record.generation)
    }

    /// Whether that database may have this version of the schema.
    pub(crate) fn allows_schema(&self, version: usize) -> bool {
        match self.schema {
            Some(Schema::Is(number)) => version == number,
            Some(Schema::UpTo(number)) => version <= number,
            None => true,
        }
    }

    pub(crate) fn write(&self, disk: &Disk, database: &Path) -> Result<()> {
        let state = match self.closed_at {
            None => "open".to_owned(),
            Some(commit) => format!("closed at commit {commit}"),
        };
        let (header, schema) = match self.schema {
            Some(Schema::Is(number)) => (HEADER, format!("\nschema {number}")),
            Some(Schema::UpTo(number)) => (HEADER, format!("\nschema up to {number}")),
            None => (HEADER_1, String::new()),
        };
        let (store_id, generation) = (&self.store_id, self.generation);
        let body = format!("{header}\nstore {store_id}\ngeneration {generation}{schema}\n{state}");
        let text = format!("{body}\n{}\n", checksum_line(&body));
        let path = Self::path(database);
        disk.replace_file(&path, text.as_bytes(), 0o600)
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }
}

impl Schema {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("schema ")?;
        match rest.strip_prefix("up to ") {
            Some(number) => number.parse().ok().map(Self::UpTo),
            None => rest.parse().ok().map(Self::Is),
        }
    }
}

fn checksum_line(body: &str) -> String {
    format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes()))
}
