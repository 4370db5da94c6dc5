//! Forward migrations of the schema, numbered by their place.

use corten_types::{Error, Result};
use rusqlite::Connection;

use crate::error::{Doing, Refusal};

/// One step of the schema. Its number is its place in [`Options::migrations`](crate::Options), counted from 1, and is
/// kept in `user_version`: steps are only ever added at the end.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    name: &'static str,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Sql(&'static str),
    Function(fn(&Connection) -> Result<(), Refusal>),
}

impl Migration {
    /// A step that runs statements.
    #[must_use]
    pub const fn sql(name: &'static str, statements: &'static str) -> Self {
        Self { name, step: Step::Sql(statements) }
    }

    /// A step that needs to compute. It must neither commit nor roll back.
    #[must_use]
    pub const fn function(name: &'static str, function: fn(&Connection) -> Result<(), Refusal>) -> Self {
        Self { name, step: Step::Function(function) }
    }
}

pub(crate) fn version_of(connection: &Connection) -> Result<usize> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .doing("cannot read the schema version")?;
    usize::try_from(version).map_err(|_| Error::data_loss(format!("the schema version is {version}")))
}

/// Refuses a database that a newer program wrote.
pub(crate) fn refuse_newer(path: &std::path::Path, version: usize, known: usize) -> Result<()> {
    if version <= known {
        return Ok(());
    }
    Err(Error::failed_precondition(format!(
        "the database {} has schema {version} and this program knows schemas up to {known}; start the newer program \
         that wrote it",
        path.display()
    )))
}

/// Brings the schema up to date, each step in a transaction of its own.
pub(crate) fn run(connection: &Connection, migrations: &[Migration], from: usize) -> Result<()> {
    for (index, migration) in migrations.iter().enumerate().skip(from) {
        let number = index + 1;
        let step = || -> Result<(), Refusal> {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            match migration.step {
                Step::Sql(statements) => connection.execute_batch(statements)?,
                Step::Function(function) => function(connection)?,
            }
            connection.pragma_update(None, "user_version", i64::try_from(number).unwrap_or(i64::MAX))?;
            connection.execute_batch("COMMIT")?;
            Ok(())
        };
        if let Err(refusal) = step() {
            if !connection.is_autocommit() {
                // The step is undone by closing the connection, too; a failure here changes nothing.
                let _ = connection.execute_batch("ROLLBACK");
            }
            let cause = refusal.into_error();
            let sentence = format!("cannot migrate the database to schema {number} ({})", migration.name);
            return Err(Error::new(cause.kind(), sentence).with_source(cause));
        }
    }
    Ok(())
}
