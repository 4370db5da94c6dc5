//! Many threads against a plain map.

use std::{collections::BTreeMap, sync::Arc, thread};

use corten_database::{Database, Refusal};
use corten_types::{Error, ErrorKind};

use crate::support::{folder, open};

/// A number that looks random and is the same in every run.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed >> 11
}

const THREADS: u64 = 16;
const STEPS: u64 = 60;

/// What one client does; answers with what it may count on.
fn act(database: &Database, thread: u64) -> BTreeMap<u64, u64> {
    let mut seed = 0x5eed + thread * 7919;
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for _ in 0..STEPS {
        let (key, value, choice) = (next(&mut seed) % 10, next(&mut seed) % 1000, next(&mut seed) % 8);
        let old = expected.get(&key).copied().unwrap_or(0);
        let answer = database.write(move |connection| -> Result<(), Refusal> {
            connection.execute(
                "INSERT INTO entry VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?3",
                (thread, key, value),
            )?;
            connection.execute("UPDATE total SET value = value + ?1 - ?2", (value, old))?;
            match choice {
                0 => Err(Error::not_found("undone").into()),
                1 => Err(Refusal::Commit(Error::new(ErrorKind::AlreadyExists, "kept"))),
                2 if value % 5 == 0 => panic!("undone"),
                _ => Ok(()),
            }
        });
        let kept = match answer.wait() {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::AlreadyExists,
        };
        if kept {
            expected.insert(key, value);
        }
        let (sum, total): (u64, u64) = database
            .read(|connection| {
                Ok(connection.query_row(
                    "SELECT coalesce((SELECT sum(value) FROM entry), 0), (SELECT value FROM total)",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?)
            })
            .unwrap();
        assert_eq!(sum, total, "a read saw half an operation");
    }
    expected
}

#[test]
fn sixteen_threads_leave_exactly_what_was_acknowledged() {
    let folder = folder();
    let path = folder.path().join("db");
    let database = Arc::new(open(&path).0);
    database
        .write(|connection| {
            connection.execute_batch(
                "CREATE TABLE entry (thread INTEGER, key INTEGER, value INTEGER, PRIMARY KEY (thread, key)) STRICT;
                 CREATE TABLE total (value INTEGER) STRICT;
                 INSERT INTO total VALUES (0);",
            )?;
            Ok(())
        })
        .wait()
        .unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let database = Arc::clone(&database);
            thread::spawn(move || act(&database, thread))
        })
        .collect();
    let expected: Vec<BTreeMap<u64, u64>> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    database.close().unwrap();
    drop(database);
    let (database, report) = open(&path);
    assert!(report.health.is_healthy());
    let found = database
        .read(|connection| {
            let mut found = vec![BTreeMap::new(); 16];
            let mut statement = connection.prepare("SELECT thread, key, value FROM entry")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let thread: usize = row.get(0)?;
                found[thread].insert(row.get(1)?, row.get(2)?);
            }
            Ok(found)
        })
        .unwrap();
    assert_eq!(found, expected);
}
