//! Whether the schema is the one that the migrations make: a flipped bit in it passes SQLite's own check.

use std::collections::BTreeSet;

use corten_types::{Error, Result};
use rusqlite::{Connection, params};

use crate::{
    connection::{self, Role},
    error::Doing,
    migration::{self, Migration},
    record,
};

/// One table or index: its place in the list, type, name, table, and statement.
pub(crate) type Item = (i64, String, String, String, Option<String>);

/// What a database says that it has.
pub(crate) fn of(connection: &Connection) -> Result<Vec<Item>> {
    let run = || {
        let text = "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid";
        let mut statement = connection.prepare(text)?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        rows.collect::<rusqlite::Result<Vec<Item>>>()
    };
    run().doing("cannot read the schema")
}

/// What a database has after the first `version` migrations.
pub(crate) fn expected(migrations: &[Migration], version: usize) -> Result<Vec<Item>> {
    let connection = connection::in_memory(Role::Salvage)?;
    record::create(&connection, None)?;
    migration::run(&connection, &migrations[..version.min(migrations.len())], 0)?;
    of(&connection)
}

/// Whether all that the migrations make is there as they make it; others may have made more.
///
/// # Errors
/// `DataLoss` if it is not.
pub(crate) fn check(connection: &Connection, migrations: &[Migration], version: usize) -> Result<()> {
    // Places may differ where something was made in between.
    let found: BTreeSet<_> =
        of(connection)?.into_iter().map(|(_, kind, name, table, sql)| (kind, name, table, sql)).collect();
    for (_, kind, name, table, sql) in expected(migrations, version)? {
        let item = (kind, name, table, sql);
        if !found.contains(&item) {
            let (kind, name, ..) = item;
            return Err(Error::data_loss(format!(
                "the database is damaged: the {kind} {name} is not what it should be"
            )));
        }
    }
    Ok(())
}

/// Writes the schema of all migrations over that of a copy that is to be read.
pub(crate) fn overwrite(connection: &Connection, migrations: &[Migration]) -> Result<()> {
    let wanted = expected(migrations, migrations.len())?;
    let run = || {
        connection.execute_batch("PRAGMA writable_schema = ON")?;
        let text = "UPDATE sqlite_schema SET type = ?2, name = ?3, tbl_name = ?4, sql = ?5 WHERE rowid = ?1";
        for (place, kind, name, table, sql) in &wanted {
            connection.execute(text, params![place, kind, name, table, sql])?;
        }
        rusqlite::Result::Ok(())
    };
    run().doing("cannot mend the schema of the copy")
}
