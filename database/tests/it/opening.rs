//! What is accepted at open, and what is refused.

use corten_database::{Database, Migration, Options, Refusal, StoreIdFile, rusqlite::Connection};
use corten_disk::Disk;
use corten_types::ErrorKind;

use crate::support::{SCHEMA, folder, numbers, open, options, put, quarantine_reason};

static NEXT_SCHEMA: &[Migration] = &[
    SCHEMA[0],
    Migration::function("a hundred", |connection| {
        for side in ["left", "right"] {
            connection.execute("INSERT INTO pair VALUES (100, ?1)", [side])?;
        }
        Ok(())
    }),
];

static BROKEN_SCHEMA: &[Migration] = &[
    SCHEMA[0],
    Migration::function("half", |connection| -> Result<(), Refusal> {
        connection.execute("INSERT INTO pair VALUES (100, 'left')", [])?;
        connection.execute("NONSENSE", [])?;
        Ok(())
    }),
];

fn with_schema(migrations: &'static [Migration]) -> Options {
    Options { migrations, ..options(Disk::new()) }
}

#[test]
fn migrations_go_forward_once_and_a_failed_one_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("db");
    let (database, report) = open(&path);
    assert_eq!((report.schema_before, report.schema), (0, 1));
    drop(database);
    let error = Database::open(&path, with_schema(BROKEN_SCHEMA)).unwrap_err();
    assert!(error.message().contains("schema 2 (half)"), "{error:?}");
    let (database, report) = Database::open(&path, with_schema(NEXT_SCHEMA)).unwrap();
    assert_eq!((report.schema_before, report.schema), (1, 2));
    assert!(report.health.is_healthy(), "{report:?}");
    assert_eq!(numbers(&database), [100]);
    drop(database);
    let (_, report) = Database::open(&path, with_schema(NEXT_SCHEMA)).unwrap();
    assert_eq!((report.schema_before, report.schema), (2, 2));
}

#[test]
fn a_database_of_a_newer_program_is_refused_with_a_sentence_and_untouched() {
    let folder = folder();
    let path = folder.path().join("db");
    drop(Database::open(&path, with_schema(NEXT_SCHEMA)).unwrap());
    let before = std::fs::read(&path).unwrap();
    let error = Database::open(&path, options(Disk::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("schema 2") && error.message().contains("up to 1"), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let (_, report) = Database::open(&path, with_schema(NEXT_SCHEMA)).unwrap();
    assert!(report.health.is_healthy(), "{report:?}");
}

#[test]
fn a_database_of_another_program_is_refused_and_stays() {
    let folder = folder();
    let path = folder.path().join("db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = Database::open(&path, options(Disk::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    Connection::open(&path).unwrap().execute_batch("SELECT * FROM theirs").unwrap();
}

#[test]
fn a_second_handle_is_told_who_holds_the_database() {
    let folder = folder();
    let path = folder.path().join("db");
    let (database, _) = open(&path);
    let error = Database::open(&path, options(Disk::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains(&std::process::id().to_string()), "{error:?}");
    drop(database);
    open(&path);
}

#[test]
fn every_open_is_a_new_generation_of_the_same_store() {
    let folder = folder();
    let path = folder.path().join("db");
    let reports: Vec<_> = (0..3).map(|_| open(&path).1).collect();
    assert_eq!(reports.iter().map(|report| report.generation).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(reports.iter().all(|report| report.store_id == reports[0].store_id));
    assert!(reports.iter().all(|report| report.health.is_healthy()));
    let other = open(&folder.path().join("other")).1;
    assert_ne!(other.store_id, reports[0].store_id);
}

#[test]
fn the_store_id_beside_the_trees_tells_same_absent_and_other() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let id = database.store_id();
    assert_eq!(id.compare(folder.path()).unwrap(), StoreIdFile::Absent);
    id.write(&Disk::new(), folder.path()).unwrap();
    assert_eq!(id.compare(folder.path()).unwrap(), StoreIdFile::Same);
    let file = folder.path().join(corten_database::StoreId::FILE_NAME);
    for damaged in [&b"0123"[..], b"", &[0xff; 4096]] {
        std::fs::write(&file, damaged).unwrap();
        assert!(matches!(id.compare(folder.path()).unwrap(), StoreIdFile::Other(_)));
    }
}

#[test]
fn quarantine_lasts_over_opens_until_it_is_released() {
    let folder = folder();
    let path = folder.path().join("db");
    let (database, _) = open(&path);
    put(&database, 1).wait().unwrap();
    drop(database);
    std::fs::remove_file(folder.path().join("db.marker")).unwrap();
    let (database, report) = open(&path);
    assert!(quarantine_reason(&report).contains("marker"), "{report:?}");
    drop(database);
    let (database, report) = open(&path);
    assert!(quarantine_reason(&report).contains("marker"), "{report:?}");
    database.release_quarantine().wait().unwrap();
    drop(database);
    let (database, report) = open(&path);
    assert!(report.health.is_healthy(), "{report:?}");
    assert_eq!(numbers(&database), [1]);
}

#[test]
fn every_connection_has_the_settings_of_the_protocol() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let wanted = [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("temp_store", "2"),
        ("mmap_size", "0"),
        ("cell_size_check", "1"),
        ("trusted_schema", "0"),
        ("wal_autocheckpoint", "0"),
    ];
    let settings = move |connection: &Connection| {
        let mut found = Vec::new();
        for (name, _) in wanted {
            let value: corten_database::rusqlite::types::Value =
                connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
            found.push(match value {
                corten_database::rusqlite::types::Value::Text(text) => text,
                corten_database::rusqlite::types::Value::Integer(number) => number.to_string(),
                other => format!("{other:?}"),
            });
        }
        Ok(found)
    };
    let expected: Vec<_> = wanted.iter().map(|(_, value)| (*value).to_owned()).collect();
    assert_eq!(database.read(settings).unwrap(), expected);
    assert_eq!(database.write(settings).wait().unwrap(), expected);
}
