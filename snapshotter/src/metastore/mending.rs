//! What checking and repairing need of the rows.

use std::{collections::BTreeSet, path::Path};

use corten_database::{
    Refusal, Salvage,
    rusqlite::{Connection, params, types::Value},
};
use corten_types::{ErrorKind, Result};

use super::{Metastore, Row, rows, schema, stored};
use crate::{DamagedSnapshot, Kind, SnapshotInfo, Usage};

impl Metastore {
    pub(crate) fn scan(&self, after: u64, limit: usize) -> Result<Vec<Result<Row, DamagedSnapshot>>> {
        self.database().read(|connection| scan(connection, after, limit))
    }

    pub(crate) fn drop_row(&self, id: u64) -> Result<()> {
        let operation = move |connection: &Connection| -> Result<(), Refusal> {
            let id = stored(id, "the snapshot id")?;
            connection.prepare_cached("DELETE FROM snapshots WHERE id = ?1")?.execute([id])?;
            Ok(())
        };
        self.database().write_freeing(operation, |_| ()).wait()
    }

    /// Parents first: a row may stand on one with a greater number.
    pub(crate) fn restore(&self, mut wanted: Vec<Row>) -> Result<Vec<Row>> {
        wanted.sort_by_key(|row| row.id);
        wanted.dedup_by_key(|row| row.id);
        let mut added = Vec::new();
        loop {
            let before = wanted.len();
            let mut left = Vec::new();
            for row in wanted {
                let candidate = row.clone();
                let operation = move |connection: &Connection| restore(connection, &candidate);
                match self.database().write(operation).wait()? {
                    Restored::Added => added.push(row),
                    Restored::Taken => {}
                    Restored::NoParent => left.push(row),
                }
            }
            if left.is_empty() || left.len() == before {
                return Ok(added);
            }
            wanted = left;
        }
    }

    pub(crate) fn salvage(damaged: &Path, scratch: &Path) -> Result<(Vec<Row>, bool)> {
        let source = Salvage::open(damaged, scratch, schema::MIGRATIONS)?;
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let complete = source.rows("snapshots", &rows::COLUMN_LIST, &["id"], |values| {
            if let Some(row) = row_of(values)
                && seen.insert(row.id)
            {
                found.push(row);
            }
        });
        Ok((found, complete))
    }

    pub(crate) fn check(&self) -> Result<Vec<String>> {
        self.database().check()
    }

    pub(crate) fn reindex(&self) -> Result<()> {
        self.database().reindex().wait()
    }
}

enum Restored {
    Added,
    /// Its number or its name is.
    Taken,
    NoParent,
}

fn restore(connection: &Connection, row: &Row) -> Result<Restored, Refusal> {
    if rows::by_id(connection, row.id)?.is_some() || rows::by_name(connection, &row.info.name)?.is_some() {
        return Ok(Restored::Taken);
    }
    if !row.info.parent.is_empty() && rows::by_name(connection, &row.info.parent)?.is_none() {
        return Ok(Restored::NoParent);
    }
    rows::put(connection, row)?;
    Ok(Restored::Added)
}

fn scan(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<Result<Row, DamagedSnapshot>>, Refusal> {
    let columns = rows::COLUMN_LIST.join(", ");
    let text = format!(
        "SELECT {columns}, quote(key) || ' ' || quote(name) || ' ' || quote(parent) || ' ' || quote(kind) || ' ' || \
         quote(labels) FROM snapshots WHERE id > ?1 ORDER BY id LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&text)?;
    let mut found = statement
        .query(params![stored(after, "the snapshot id")?, stored(limit as u64, "the page length")?])?;
    let mut page = Vec::new();
    while let Some(row) = found.next()? {
        page.push(match rows::read(row) {
            Err(error) if error.kind() == ErrorKind::DataLoss => {
                let content = row.get_ref(rows::COLUMN_LIST.len())?.as_bytes().unwrap_or_default();
                Err(DamagedSnapshot {
                    id: row.get(0)?,
                    problem: error.chain(),
                    content: String::from_utf8_lossy(content).into_owned(),
                })
            }
            result => Ok(result?),
        });
    }
    Ok(page)
}

/// The row of columns that were salvaged; none if its checksum is wrong.
fn row_of(values: Vec<Value>) -> Option<Row> {
    let [
        Value::Integer(id),
        Value::Text(key),
        Value::Text(name),
        Value::Text(parent),
        Value::Text(kind),
        Value::Text(labels),
        size,
        inodes,
        Value::Integer(created),
        Value::Integer(updated),
        Value::Integer(1),
        manifest,
    ] = <[Value; 12]>::try_from(values).ok()?
    else {
        return None;
    };
    let usage = match (size, inodes) {
        (Value::Integer(size), Value::Integer(inodes)) => {
            Some(Usage { size_bytes: u64::try_from(size).ok()?, inodes: u64::try_from(inodes).ok()? })
        }
        _ => None,
    };
    let info = SnapshotInfo {
        kind: Kind::of_word(&kind)?,
        name,
        parent,
        labels: serde_json::from_str(&labels).ok()?,
        created_at: rows::time_of(created),
        updated_at: rows::time_of(updated),
    };
    let manifest = match manifest {
        Value::Integer(checksum) => Some(u32::try_from(checksum).ok()?),
        _ => None,
    };
    Some(Row { id: u64::try_from(id).ok()?, key, info, usage, manifest })
}
