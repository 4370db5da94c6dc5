//! The tables that this crate keeps in the database for itself.

use corten_types::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    connection::APPLICATION_ID,
    error::{Doing, Refusal},
    store_id::StoreId,
};

/// What the database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) store_id: StoreId,
    /// Raised at every open.
    pub(crate) generation: u64,
    /// Raised by every commit of the writer: after a failed commit it says whether the commit is there.
    pub(crate) commits: u64,
    /// Why the database is in quarantine.
    pub(crate) quarantine: Option<String>,
}

/// Reads the record; none if the database holds nothing at all.
pub(crate) fn read(connection: &Connection) -> Result<Option<Record>> {
    let known: bool = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'corten_database'", [], |row| row.get(0))
        .doing("cannot read the schema")?;
    if !known {
        return Ok(None);
    }
    let record = connection
        .query_row(
            "SELECT store_id, generation, commits, quarantine FROM corten_database WHERE id = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()
        .doing("cannot read the record of the database")
        .map_err(|error| match error.kind() {
            // The statement is right: what it finds is not the table that it was written for.
            ErrorKind::Internal => {
                Error::data_loss("the record of the database is damaged").with_source(error)
            }
            _ => error,
        })?;
    let Some((store_id, generation, commits, quarantine)) = record else {
        return Err(Error::data_loss("the record of the database is missing"));
    };
    let store_id: String = store_id;
    Ok(Some(Record { store_id: store_id.parse()?, generation, commits, quarantine }))
}

/// Writes the first record into an empty database.
pub(crate) fn create(connection: &Connection, quarantine: Option<&str>) -> Result<()> {
    let statements = || -> Result<(), Refusal> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.execute_batch(
            "CREATE TABLE corten_database (
                 id INTEGER PRIMARY KEY CHECK (id = 1),
                 store_id TEXT NOT NULL,
                 generation INTEGER NOT NULL,
                 commits INTEGER NOT NULL,
                 quarantine TEXT
             ) STRICT",
        )?;
        connection.execute(
            "INSERT INTO corten_database VALUES (1, lower(hex(randomblob(16))), 0, 0, ?1)",
            params![quarantine],
        )?;
        connection.execute_batch("COMMIT")?;
        Ok(())
    };
    statements().map_err(|refusal| describe("cannot create the database", refusal))
}

/// Begins a new generation, and notes why there is quarantine if it is new.
pub(crate) fn begin_generation(
    connection: &Connection,
    generation: u64,
    quarantine: Option<&str>,
) -> Result<()> {
    connection
        .execute(
            "UPDATE corten_database SET generation = ?1, quarantine = coalesce(quarantine, ?2)",
            params![generation, quarantine],
        )
        .doing("cannot begin a new generation of the database")
        .map(drop)
}

pub(crate) fn set_commits(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE corten_database SET commits = ?1")?.execute([number]).map(drop)
}

pub(crate) fn commits(connection: &Connection) -> Result<u64> {
    connection
        .query_row("SELECT commits FROM corten_database", [], |row| row.get(0))
        .doing("cannot read the number of the last commit")
}

fn describe(what: &str, refusal: Refusal) -> Error {
    let cause = refusal.into_error();
    Error::new(cause.kind(), what).with_source(cause)
}
