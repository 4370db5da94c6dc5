//! Reads beside the writer.

use std::{sync::Arc, thread};

use corten_database::{Database, Options};
use corten_types::{Error, ErrorKind};

use crate::support::{Gate, SCHEMA, folder, insert, numbers, open, put};

#[test]
fn a_read_sees_one_state_and_waits_for_no_writer() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    put(&database, 1).wait().unwrap();
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    assert_eq!(numbers(&database), [1], "while the writer is in a transaction");
    gate.open();
    held.wait().unwrap();
    let count = |connection: &corten_database::rusqlite::Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM pair", [], |row| row.get(0)).unwrap()
    };
    database
        .read(|connection| {
            let before = count(connection);
            put(&database, 2).wait()?;
            assert_eq!(count(connection), before);
            Ok(())
        })
        .unwrap();
    assert_eq!(numbers(&database), [1, 2]);
}

#[test]
fn more_reads_than_connections_wait_for_each_other() {
    let folder = folder();
    let options = Options { migrations: SCHEMA, readers: 2, ..Options::default() };
    let database = Arc::new(Database::open(&folder.path().join("db"), options).unwrap().0);
    put(&database, 1).wait().unwrap();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let database = Arc::clone(&database);
            thread::spawn(move || (0..50).for_each(|_| assert_eq!(numbers(&database), [1])))
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn a_read_cannot_write_and_a_failed_or_panicked_one_leaves_the_others_alone() {
    let folder = folder();
    let options = Options { migrations: SCHEMA, readers: 1, ..Options::default() };
    let (database, _) = Database::open(&folder.path().join("db"), options).unwrap();
    assert!(database.read(|connection| insert(connection, 1)).is_err());
    let error = database.read(|_| -> Result<(), _> { panic!("a bug") }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let refused = database.read(|_| -> Result<(), _> { Err(Error::not_found("x").into()) });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(numbers(&database), [0_i64; 0]);
}

#[test]
fn a_copy_holds_one_state_and_is_in_quarantine_when_it_is_put_in_place() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    put(&database, 1).wait().unwrap();
    let target = folder.path().join("copy");
    database.copy_to(&target).unwrap();
    assert_eq!(database.copy_to(&target).unwrap_err().kind(), ErrorKind::AlreadyExists);
    put(&database, 2).wait().unwrap();
    let (copy, report) = open(&target);
    assert_eq!(numbers(&copy), [1]);
    assert!(!report.health.is_healthy(), "nobody knows which files belong to it");
    assert_eq!(copy.store_id(), database.store_id());
}

#[test]
fn the_log_is_copied_into_the_database_and_begun_again() {
    let folder = folder();
    let path = folder.path().join("db");
    let options = Options { migrations: SCHEMA, checkpoint_bytes: u64::MAX, ..Options::default() };
    let (database, _) = Database::open(&path, options).unwrap();
    for number in 0..50 {
        put(&database, number).wait().unwrap();
    }
    let done = database.checkpoint().unwrap();
    assert!(!done.busy && done.log_pages == done.copied_pages && done.log_pages >= 100, "{done:?}");
    put(&database, 50).wait().unwrap();
    assert!(database.statistics().wal_bytes <= 8 * 4096, "{:?}", database.statistics());
}

#[test]
fn the_log_stays_below_its_limit_by_itself() {
    let folder = folder();
    let path = folder.path().join("db");
    let limit = 256 << 10;
    let options = Options {
        migrations: SCHEMA,
        checkpoint_bytes: 32 << 10,
        wal_limit_bytes: limit,
        ..Options::default()
    };
    let (database, _) = Database::open(&path, options).unwrap();
    for number in 0..1000 {
        put(&database, number).wait().unwrap();
    }
    // Unbounded it would have 12 MB. A thread that is late at twice the limit is replaced by the writer.
    let wal = path.with_file_name("db-wal").metadata().unwrap().len();
    assert!(database.statistics().checkpoints > 0 && wal < 8 * limit, "{wal} bytes");
}

#[test]
fn memory_is_released_without_a_commit() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    for number in 1..=100 {
        put(&database, number).wait().unwrap();
    }
    let expected: Vec<_> = (1..=100).collect();
    assert_eq!(numbers(&database), expected, "a reader is idle now");
    let commits = database.statistics().commits;
    database.release_memory().wait().unwrap();
    assert_eq!(numbers(&database), expected);
    put(&database, 101).wait().unwrap();
    assert_eq!(database.statistics().commits, commits + 1, "only the change was committed");
}
