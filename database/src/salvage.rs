//! Reading what is left of a database that was set aside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use corten_types::{Error, Result};
use rusqlite::{Connection, types::Value};

use crate::{
    connection::{self, Role},
    error::Doing,
    marker::beside,
    migration::{self, Migration},
    record, schema,
};

/// The length of a page, which every database of this crate has.
const PAGE_BYTES: usize = 4096;

/// A copy of a damaged database, opened for whatever can still be read. The damaged files are only read.
///
/// Nothing that it answers can be trusted by itself: rows need checksums of their own.
#[derive(Debug)]
pub struct Salvage {
    connection: Connection,
}

impl Salvage {
    /// Copies `damaged` (absolute) and its log into the folder `scratch`, which must exist, and opens the copy. If its first
    /// page is beyond use, that of a new database with the same `migrations` takes its place: tables then lie where they
    /// always do.
    ///
    /// # Errors
    /// - `DataLoss`: not even so can the schema be read.
    /// - Others: the disk. The damaged files are as they were.
    pub fn open(damaged: &Path, scratch: &Path, migrations: &[Migration]) -> Result<Self> {
        let copy = scratch.join("salvaged.db");
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&copy, suffix));
        }
        for suffix in ["", "-wal"] {
            copy_if_there(&beside(damaged, suffix), &beside(&copy, suffix))?;
        }
        if let Some(connection) = opened(&copy, migrations) {
            return Ok(Self { connection });
        }
        // Names and statements first, which lie on several pages; then the page that leads to them.
        let mended = connection::open(&copy, None, Role::Salvage)
            .and_then(|connection| schema::overwrite(&connection, migrations));
        if mended.is_ok()
            && let Some(connection) = opened(&copy, migrations)
        {
            return Ok(Self { connection });
        }
        replace_first_page(&copy, &scratch.join("template.db"), migrations)?;
        Ok(Self { connection: open_copy(&copy)? })
    }

    /// Hands `visit` the columns of every row of `table` that can be read: upwards in the order of the columns `order` until
    /// a damaged page, then downwards from the other end until one. A row may come twice. Whether all pages could be read.
    pub fn rows(
        &self,
        table: &str,
        columns: &[&str],
        order: &[&str],
        mut visit: impl FnMut(Vec<Value>),
    ) -> bool {
        ["ASC", "DESC"].into_iter().any(|direction| {
            let order: Vec<String> = order.iter().map(|column| format!("{column} {direction}")).collect();
            let text = format!("SELECT {} FROM {table} ORDER BY {}", columns.join(", "), order.join(", "));
            self.scan(&text, columns.len(), &mut visit).is_ok()
        })
    }

    fn scan(&self, text: &str, columns: usize, visit: &mut impl FnMut(Vec<Value>)) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // Text that is no text is no row of ours.
            if let Ok(values) = (0..columns).map(|at| row.get(at)).collect() {
                visit(values);
            }
        }
        Ok(())
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format!("cannot copy {} to look into it", from.display()), error)),
    }
}

/// The copy, if its schema is one that the migrations make.
fn opened(copy: &Path, migrations: &[Migration]) -> Option<Connection> {
    let connection = open_copy(copy).ok()?;
    let is_known =
        (0..=migrations.len()).any(|version| schema::check(&connection, migrations, version).is_ok());
    is_known.then_some(connection)
}

fn open_copy(copy: &Path) -> Result<Connection> {
    let connection = connection::open(copy, None, Role::Salvage)?;
    connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get::<_, i64>(0))
        .doing(format!("nothing can be read of {}", copy.display()))?;
    Ok(connection)
}

/// Puts the first page of a new database in place of that of `copy`.
fn replace_first_page(copy: &Path, template: &Path, migrations: &[Migration]) -> Result<()> {
    let mut page = first_page(template, migrations)?;
    let failed = |error| Error::io(format!("cannot replace the first page of {}", copy.display()), error);
    let mut bytes = fs::read(copy).map_err(failed)?;
    if bytes.len() < PAGE_BYTES {
        return Err(Error::data_loss(format!("{} is shorter than a page", copy.display())));
    }
    // The file format of SQLite, §1.3: the number of pages, and a free list that is empty.
    let pages = u32::try_from(bytes.len() / PAGE_BYTES).unwrap_or(u32::MAX);
    page[28..32].copy_from_slice(&pages.to_be_bytes());
    page[32..40].fill(0);
    bytes[..PAGE_BYTES].copy_from_slice(&page);
    corten_disk::Disk::new().replace_file(copy, &bytes, 0o600).map_err(failed)
}

fn first_page(template: &Path, migrations: &[Migration]) -> Result<Vec<u8>> {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(template, suffix));
    }
    let connection = connection::open(template, None, Role::Writer)?;
    record::create(&connection, None)?;
    migration::run(&connection, migrations, 0)?;
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .doing("cannot make a database to compare with")?;
    drop(connection);
    let path: PathBuf = template.to_owned();
    let mut bytes = fs::read(&path).map_err(|error| Error::io("cannot read the new database", error))?;
    bytes.truncate(PAGE_BYTES);
    Ok(bytes)
}
