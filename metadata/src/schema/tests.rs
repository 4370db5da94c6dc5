use corten_database::{Database, Options};

use super::*;
use crate::metadata::MIGRATIONS;

const INDEX: &str = "containers_in_short";

/// Whether a database of version 2, changed by `statements`, has the index once it was opened.
fn has_index_afterwards(statements: &'static str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let options = |migrations| Options { migrations, ..Options::default() };
    let (database, _) = Database::open(&path, options(&MIGRATIONS[..2])).unwrap();
    database.write(move |connection| Ok(connection.execute_batch(statements)?)).wait().unwrap();
    database.close().unwrap();
    let (database, _) = Database::open(&path, options(MIGRATIONS)).unwrap();
    let text = "SELECT count(*) = 1 FROM sqlite_schema WHERE name = ?1";
    let found = database.read(|connection| Ok(connection.query_row(text, [INDEX], |row| row.get(0))?));
    database.close().unwrap();
    found.unwrap()
}

#[test]
fn a_database_of_version_2_gets_the_index_of_containers() {
    assert!(has_index_afterwards(""));
}

#[test]
fn a_database_of_version_2_that_has_the_index_keeps_it() {
    assert!(has_index_afterwards(VERSION_3));
}
