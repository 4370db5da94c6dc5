//! What the tests share: a schema, a gate that holds the writer, folders in memory.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use corten_database::{
    Answer, Database, Health, Migration, OpenReport, Options, Refusal, rusqlite::Connection,
};
use corten_disk::Disk;
use corten_types::Result;
use tempfile::TempDir;

pub(crate) static SCHEMA: &[Migration] = &[Migration::sql(
    "pairs",
    "CREATE TABLE pair (
         number INTEGER NOT NULL,
         side TEXT NOT NULL,
         PRIMARY KEY (number, side)
     ) STRICT",
)];

/// A folder in memory where there is one: these tests look at what is synced, not at how long it takes.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn options(disk: Disk) -> Options {
    Options { migrations: SCHEMA, disk, reserve_bytes: 64 << 10, ..Options::default() }
}

pub(crate) fn open(path: &Path) -> (Database, OpenReport) {
    Database::open(path, options(Disk::new())).unwrap()
}

pub(crate) fn quarantine_reason(report: &OpenReport) -> &str {
    match &report.health {
        Health::Healthy => panic!("the database is healthy"),
        Health::Quarantine { reason, .. } => reason,
    }
}

/// Inserts both sides of `number`: either both are there or none.
pub(crate) fn insert(connection: &Connection, number: i64) -> Result<(), Refusal> {
    for side in ["left", "right"] {
        connection.execute("INSERT INTO pair VALUES (?1, ?2)", (number, side))?;
    }
    Ok(())
}

pub(crate) fn put(database: &Database, number: i64) -> Answer<()> {
    database.write(move |connection| insert(connection, number))
}

pub(crate) fn numbers(database: &Database) -> Vec<i64> {
    database
        .read(|connection| {
            let mut statement =
                connection.prepare("SELECT number, count(*) FROM pair GROUP BY number ORDER BY number")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
            assert!(rows.iter().all(|(_, sides)| *sides == 2), "half a pair: {rows:?}");
            Ok(rows.into_iter().map(|(number, _)| number).collect())
        })
        .unwrap()
}

/// An operation that waits at a gate, so that others queue up behind it and form a batch.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn close_behind(&self, database: &Database) -> Answer<()> {
        let (entered, seen) = std::sync::mpsc::channel();
        let gate = self.clone();
        let answer = database.write(move |_| {
            let _ = entered.send(());
            let mut is_open = gate.0.0.lock().unwrap();
            while !*is_open {
                is_open = gate.0.1.wait(is_open).unwrap();
            }
            Ok(())
        });
        // An error means that the operation was refused before it ran.
        let _ = seen.recv();
        answer
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}
