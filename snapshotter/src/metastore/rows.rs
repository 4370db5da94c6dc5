//! Statements: rows in and out of the database.

use std::time::{Duration, SystemTime};

use corten_database::Refusal;
use corten_database::rusqlite::{self, Connection, OptionalExtension, params};
use corten_types::{Error, Labels, Result};

use super::{Row, not_found, reading, stored};
use crate::{Kind, SnapshotInfo, Usage};

/// The columns that [`read`] reads.
pub(super) const COLUMN_LIST: [&str; 12] = [
    "id",
    "key",
    "name",
    "coalesce(parent, '')",
    "kind",
    "labels",
    "size_bytes",
    "inodes",
    "created_ns",
    "updated_ns",
    "checksum = crc32c(id, key, name, parent, kind, labels, size_bytes, inodes, created_ns, updated_ns, manifest)",
    "manifest",
];

const COLUMNS: &str =
    "id, key, name, coalesce(parent, ''), kind, labels, size_bytes, inodes, created_ns, updated_ns,
    checksum = crc32c(id, key, name, parent, kind, labels, size_bytes, inodes, created_ns, updated_ns, manifest),
    manifest";

/// The time, as precise as it is stored.
pub(crate) fn now() -> SystemTime {
    time_of(nanoseconds(SystemTime::now()))
}

pub(super) fn by_name(connection: &Connection, name: &str) -> Result<Option<Row>> {
    one(connection, "name = ?1", [name])
}

pub(super) fn by_id(connection: &Connection, id: u64) -> Result<Option<Row>, Refusal> {
    Ok(one(connection, "id = ?1", [stored(id, "the snapshot id")?])?)
}

pub(super) fn committed_from(connection: &Connection, key: &str) -> Result<Option<Row>, Refusal> {
    Ok(one(connection, "key = ?1 AND kind = 'committed' ORDER BY id DESC LIMIT 1", [key])?)
}

pub(super) fn required(connection: &Connection, name: &str) -> Result<Row, Refusal> {
    Ok(by_name(connection, name)?.ok_or_else(|| not_found(name))?)
}

/// Up to `limit` rows after the name `after`, by name.
pub(super) fn page(connection: &Connection, after: Option<&str>, limit: usize) -> Result<Vec<Row>, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM snapshots WHERE ?1 IS NULL OR name > ?1 ORDER BY name LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = stored(limit as u64, "the page length")?;
    let mut found = statement.query(params![after, limit])?;
    let mut page = Vec::new();
    while let Some(row) = found.next()? {
        page.push(read(row)?);
    }
    Ok(page)
}

/// The number, the parent and the kind of a snapshot; not checked for damage.
pub(super) fn link(connection: &Connection, name: &str) -> Result<(u64, String, bool), Refusal> {
    let sql = "SELECT id, coalesce(parent, ''), kind = 'committed' FROM snapshots WHERE name = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?
        .ok_or_else(|| Error::data_loss(format!("the row of parent snapshot {name:?} is gone")).into())
}

/// A snapshot that stands on `name`, if there is one.
pub(super) fn child_of(connection: &Connection, name: &str) -> Result<Option<String>, Refusal> {
    let mut statement = connection.prepare_cached("SELECT name FROM snapshots WHERE parent = ?1 LIMIT 1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// Writes a row, new or changed.
pub(super) fn put(connection: &Connection, row: &Row) -> Result<(), Refusal> {
    let labels = serde_json::to_string(&row.info.labels)
        .map_err(|error| Error::internal("labels cannot be written as JSON").with_source(error))?;
    let parent = (!row.info.parent.is_empty()).then_some(row.info.parent.as_str());
    let number = |read: fn(&Usage) -> u64| {
        row.usage.as_ref().map(|usage| stored(read(usage), "the usage")).transpose()
    };
    let sql = "INSERT INTO snapshots
            (id, key, name, parent, kind, labels, size_bytes, inodes, created_ns, updated_ns, manifest, checksum)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
            crc32c(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11))
        ON CONFLICT (id) DO UPDATE SET
            key = excluded.key, name = excluded.name, parent = excluded.parent, kind = excluded.kind,
            labels = excluded.labels, size_bytes = excluded.size_bytes, inodes = excluded.inodes,
            created_ns = excluded.created_ns, updated_ns = excluded.updated_ns, manifest = excluded.manifest,
            checksum = excluded.checksum";
    connection.prepare_cached(sql)?.execute(params![
        stored(row.id, "the snapshot id")?,
        row.key,
        row.info.name,
        parent,
        row.info.kind.as_str(),
        labels,
        number(|usage| usage.size_bytes)?,
        number(|usage| usage.inodes)?,
        nanoseconds(row.info.created_at),
        nanoseconds(row.info.updated_at),
        row.manifest,
    ])?;
    Ok(())
}

/// Removes a row and remembers that its folder has to go.
pub(super) fn bury(connection: &Connection, row: &Row) -> Result<(), Refusal> {
    let id = stored(row.id, "the snapshot id")?;
    connection.prepare_cached("DELETE FROM snapshots WHERE id = ?1")?.execute([id])?;
    connection
        .prepare_cached("INSERT INTO tombstones (id, name, removed_ns) VALUES (?1, ?2, ?3)")?
        .execute(params![id, row.info.name, nanoseconds(SystemTime::now())])?;
    Ok(())
}

pub(super) fn tombstones(connection: &Connection) -> Result<Vec<u64>, Refusal> {
    let mut statement = connection.prepare_cached("SELECT id FROM tombstones ORDER BY id")?;
    let ids = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(ids)
}

pub(super) fn forget(connection: &Connection, ids: &[u64]) -> Result<(), Refusal> {
    let mut statement = connection.prepare_cached("DELETE FROM tombstones WHERE id = ?1")?;
    for id in ids {
        statement.execute([stored(*id, "the snapshot id")?])?;
    }
    Ok(())
}

/// The largest number that was ever used.
pub(super) fn last_id(connection: &Connection) -> Result<u64, Refusal> {
    let sql = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'), 0),
                          coalesce((SELECT max(id) FROM snapshots), 0),
                          coalesce((SELECT max(id) FROM tombstones), 0))";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn one(connection: &Connection, condition: &str, parameters: impl rusqlite::Params) -> Result<Option<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM snapshots WHERE {condition}");
    let mut statement = reading(connection.prepare_cached(&sql))?;
    let mut found = reading(statement.query(parameters))?;
    reading(found.next())?.map(read).transpose()
}

/// Reads the [`COLUMNS`] of a row.
pub(super) fn read(row: &rusqlite::Row<'_>) -> Result<Row> {
    let id: u64 = reading(row.get(0))?;
    let name: String = reading(row.get(2))?;
    let damaged = |what: &str| {
        Error::data_loss(format!("the row of snapshot {name:?} (number {id}) is damaged: {what}"))
    };
    if !reading(row.get::<_, bool>(10))? {
        return Err(damaged("its checksum is wrong"));
    }
    let word = reading(row.get::<_, String>(4))?;
    let kind = Kind::of_word(&word).ok_or_else(|| damaged(&format!("kind {word:?}")))?;
    let labels: Labels =
        serde_json::from_str(&reading(row.get::<_, String>(5))?).map_err(|_| damaged("its labels"))?;
    let usage = match (reading(row.get(6))?, reading(row.get(7))?) {
        (Some(size_bytes), Some(inodes)) => Some(Usage { size_bytes, inodes }),
        _ => None,
    };
    let key = reading(row.get(1))?;
    let parent = reading(row.get(3))?;
    let created_at = time_of(reading(row.get(8))?);
    let updated_at = time_of(reading(row.get(9))?);
    let manifest = reading(row.get(11))?;
    let info = SnapshotInfo { kind, name, parent, labels, created_at, updated_at };
    Ok(Row { id, key, info, usage, manifest })
}

/// Nanoseconds since 1970; what lies outside of 1970 to 2262 is moved to the nearer end.
fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn time_of(nanoseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
