//! Opening connections, all with the same settings.

use std::{path::Path, time::Duration};

use corten_types::Result;
use rusqlite::{
    Connection, OpenFlags,
    config::DbConfig,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use crate::error::Doing;

/// `application_id` of a database of this crate: "CRTN".
pub(crate) const APPLICATION_ID: i64 = 0x4352_544e;

/// How long a writer waits for a checkpoint that cuts the log, which is the only other holder of the write lock.
pub(crate) const WRITER_PATIENCE: Duration = Duration::from_secs(30);

const WRITER_CACHE_KIB: i64 = 2048;
const READER_CACHE_KIB: i64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Checkpointer,
    /// Reads a copy of a damaged database.
    Salvage,
}

/// Opens `path`, which is created if it is not there and the role is `Writer`.
pub(crate) fn open(path: &Path, vfs: Option<&str>, role: Role) -> Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if role == Role::Writer {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
    .doing(format!("cannot open the database {}", path.display()))?;
    configure(&connection, role).doing(format!("cannot set up the database {}", path.display()))?;
    Ok(connection)
}

/// A database that is nowhere.
pub(crate) fn in_memory(role: Role) -> Result<Connection> {
    let connection = Connection::open_in_memory().doing("cannot open a database in memory")?;
    configure(&connection, role).doing("cannot set up a database in memory")?;
    Ok(connection)
}

fn configure(connection: &Connection, role: Role) -> rusqlite::Result<()> {
    // A connection that goes away after a failure must leave the log for the next one to judge.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // The schema of a copy may have to be mended.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, role != Role::Salvage)?;
    connection.busy_timeout(if role == Role::Writer { WRITER_PATIENCE } else { Duration::ZERO })?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let cache = if role == Role::Writer { WRITER_CACHE_KIB } else { READER_CACHE_KIB };
    connection.pragma_update(None, "cache_size", -cache)?;
    if role == Role::Writer {
        // Answers with the mode it has, which was WAL before unless the database is new.
        let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(rusqlite::Error::InvalidParameterName(format!("journal mode {mode} instead of wal")));
        }
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    if role == Role::Reader {
        connection.pragma_update(None, "query_only", true)?;
    }
    connection.create_scalar_function(
        "crc32c",
        -1,
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS,
        |context| Ok(i64::from(row_checksum(context))),
    )
}

/// The checksum over all arguments, with their types and lengths, so that no two rows are the same text by shifting
/// bytes from one column to the next.
fn row_checksum(context: &Context<'_>) -> u32 {
    let mut sum = 0;
    for index in 0..context.len() {
        let value = context.get_raw(index);
        sum = match value {
            ValueRef::Null => crc32c::crc32c_append(sum, b"n"),
            ValueRef::Integer(number) => append(sum, b'i', &number.to_le_bytes()),
            ValueRef::Real(number) => append(sum, b'r', &number.to_le_bytes()),
            ValueRef::Text(text) => append(sum, b't', text),
            ValueRef::Blob(bytes) => append(sum, b'b', bytes),
        };
    }
    sum
}

fn append(sum: u32, kind: u8, bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(sum, &[kind]);
    let sum = crc32c::crc32c_append(sum, &(bytes.len() as u64).to_le_bytes());
    crc32c::crc32c_append(sum, bytes)
}

/// Looks for damage thoroughly, indexes included; the answers are what is wrong.
pub(crate) fn full_check(connection: &Connection) -> Result<Vec<String>> {
    let run = || {
        let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    match run().doing("cannot check the database") {
        Ok(answers) => Ok(answers.into_iter().filter(|answer| answer != "ok").collect()),
        // A page that cannot be read at all ends the check.
        Err(error) if error.kind() == corten_types::ErrorKind::DataLoss => Ok(vec![error.chain()]),
        Err(error) => Err(error),
    }
}

/// Looks for damage; the answer is what is wrong, if anything.
pub(crate) fn quick_check(connection: &Connection) -> Result<Option<String>> {
    let answer: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .doing("cannot check the database")?;
    Ok((answer != "ok").then_some(answer))
}

/// Whether there is no table at all.
pub(crate) fn is_empty(connection: &Connection) -> Result<bool> {
    connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        .doing("cannot read the schema")
}
