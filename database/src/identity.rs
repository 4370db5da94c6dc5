//! Whose database it is and of which version: told apart from damage to the few bytes that say so.

use std::path::Path;

use corten_types::{Error, Result};
use rusqlite::{Connection, MAIN_DB};

use crate::{
    connection::APPLICATION_ID,
    error::Doing,
    marker::Marker,
    migration::{self, Migration},
    record, schema,
};

/// Refuses a database of another program; an empty one passes.
///
/// A table of ours makes it ours, whatever its header says.
///
/// # Errors
/// `FailedPrecondition`: it is another program's. `DataLoss`: it is ours, and its header is damaged.
pub(crate) fn check_application(
    connection: &Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<()> {
    let id: i64 = connection
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .doing("cannot read the application id")?;
    let found = schema::of(connection)?;
    let is_ours = || -> Result<bool> {
        let ours = schema::expected(migrations, migrations.len())?;
        Ok(found
            .iter()
            .any(|item| ours.iter().any(|own| own.1 == item.1 && own.2 == item.2 && own.4 == item.4)))
    };
    if id == APPLICATION_ID || (id == 0 && found.is_empty()) {
        return check_writable(connection, path);
    }
    if is_ours()? {
        return Err(Error::data_loss(format!(
            "the database is damaged: its header says application {id:#x}"
        )));
    }
    Err(Error::failed_precondition(format!("{} is a database of another program", path.display())))
}

/// A header may say that only a newer SQLite can write.
fn check_writable(connection: &Connection, path: &Path) -> Result<()> {
    let is_read_only =
        connection.is_readonly(MAIN_DB).doing("cannot ask whether the database can be written")?;
    if is_read_only && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok() {
        return Err(Error::data_loss("the database is damaged: its header says that it cannot be written"));
    }
    Ok(())
}

/// Whether the header says that SQLite itself is too old for the file. It has no code of its own.
pub(crate) fn is_of_another_format(error: &Error) -> bool {
    error.chain().contains("unsupported file format")
}

/// The version of the schema, if it can be true.
///
/// The marker has the number as well. If it is that of this very database and says another one, the header is damaged.
///
/// # Errors
/// `FailedPrecondition`: a newer program wrote it. `DataLoss`: it is damaged.
pub(crate) fn version(
    connection: &Connection,
    path: &Path,
    migrations: &[Migration],
    marker: Option<&Marker>,
) -> Result<usize> {
    let version = migration::version_of(connection)?;
    let newer = migration::refuse_newer(path, version, migrations.len());
    let record = match record::read(connection) {
        // A newer program may keep it in another way.
        Err(_) if newer.is_err() => None,
        record => record?,
    };
    if let Some(record) = record
        && let Some(marker) = marker
        && marker.is_of(&record)
        && !marker.allows_schema(version)
    {
        return Err(Error::data_loss(format!("the database is damaged: its header says schema {version}")));
    }
    newer.map(|()| version)
}
