//! Files and rows in one history: a store of blobs with a row each.

use std::{fs, io, path::Path};

use corten_database::{Database, Migration, Options};
use corten_disk::{
    Disk,
    testing::{Fault, Script, Unsynced},
};
use corten_types::{Error, Result};

use crate::support::folder;

static SCHEMA: &[Migration] = &[Migration::sql(
    "blobs",
    "CREATE TABLE blob (name TEXT PRIMARY KEY) STRICT; CREATE TABLE tombstone (name TEXT PRIMARY KEY) STRICT",
)];

fn open(disk: &Disk, root: &Path) -> Result<Database> {
    let options = Options { migrations: SCHEMA, disk: disk.clone(), ..Options::default() };
    let (database, report) = Database::open(&root.join("db"), options)?;
    assert!(report.health.is_healthy(), "{report:?}");
    Ok(database)
}

fn file_error(error: io::Error) -> Error {
    Error::io("a file", error)
}

/// Bytes before rows.
fn add(disk: &Disk, root: &Path, database: &Database, name: &'static str) -> Result<()> {
    let draft = root.join("draft");
    let store = || -> io::Result<()> {
        let mut file = disk.create_new(&draft, 0o644)?;
        file.append(name.as_bytes())?;
        file.set_mode(0o444)?;
        file.sync_all()?;
        disk.rename(&draft, &root.join("blobs").join(name))?;
        disk.sync_folder(&root.join("blobs"))
    };
    store().map_err(file_error)?;
    database
        .write(move |connection| {
            connection.execute("INSERT INTO blob VALUES (?1)", [name])?;
            Ok(())
        })
        .wait()
}

/// Rows before bytes, with a tombstone between.
fn remove(disk: &Disk, root: &Path, database: &Database, name: &'static str) -> Result<()> {
    let unlisted = database.write_freeing(
        move |connection| {
            connection.execute("DELETE FROM blob WHERE name = ?1", [name])?;
            connection.execute("INSERT INTO tombstone VALUES (?1)", [name])?;
            Ok(())
        },
        |_| (),
    );
    unlisted.wait()?;
    disk.remove_file(&root.join("blobs").join(name)).map_err(file_error)?;
    disk.sync_folder(&root.join("blobs")).map_err(file_error)?;
    database
        .write(move |connection| {
            connection.execute("DELETE FROM tombstone WHERE name = ?1", [name])?;
            Ok(())
        })
        .wait()
}

/// What the outside saw: names that were acknowledged as added, and as removed.
#[derive(Default)]
struct Ledger {
    added: Vec<&'static str>,
    removing: Vec<&'static str>,
    removed: Vec<&'static str>,
}

fn scenario(disk: &Disk, root: &Path, ledger: &mut Ledger) -> Result<()> {
    disk.create_dir_all(&root.join("blobs"), 0o755).map_err(file_error)?;
    let database = open(disk, root)?;
    for name in ["one", "two"] {
        add(disk, root, &database, name)?;
        ledger.added.push(name);
    }
    ledger.removing.push("one");
    remove(disk, root, &database, "one")?;
    ledger.removed.push("one");
    database.checkpoint()?;
    add(disk, root, &database, "three")?;
    ledger.added.push("three");
    database.close()
}

fn assert_invariants(root: &Path, ledger: &Ledger, what: &str) {
    let database = open(&Disk::new(), root).unwrap();
    let list = |table: &str| {
        database
            .read(|connection| {
                let mut statement = connection.prepare(&format!("SELECT name FROM {table}"))?;
                let names = statement.query_map([], |row| row.get(0))?;
                Ok(names.collect::<Result<Vec<String>, _>>()?)
            })
            .unwrap()
    };
    let (rows, tombstones) = (list("blob"), list("tombstone"));
    for row in &rows {
        let path = root.join("blobs").join(row);
        assert_eq!(fs::read(&path).ok().as_deref(), Some(row.as_bytes()), "{what}: the bytes of {row}");
        assert!(path.metadata().unwrap().permissions().readonly(), "{what}: the mode of {row}");
    }
    for added in &ledger.added {
        let is_there = rows.iter().any(|row| row == added);
        assert!(is_there || ledger.removing.contains(added), "{what}: {added} was acknowledged, and is lost");
    }
    for removed in &ledger.removed {
        assert!(!rows.iter().any(|row| row == removed), "{what}: {removed} is back");
        assert!(!tombstones.iter().any(|name| name == removed), "{what}: the tombstone of {removed} is back");
        assert!(!root.join("blobs").join(removed).exists(), "{what}: the bytes of {removed} are back");
    }
}

fn check_all_states(script: &Script, ledger: &Ledger, what: &str) {
    for unsynced in Unsynced::ALL {
        let target = folder();
        script.after_power_loss(unsynced, target.path()).unwrap();
        assert_invariants(target.path(), ledger, &format!("{what}, {unsynced:?}, {:#?}", script.log()));
    }
}

#[test]
fn files_and_rows_agree_after_a_power_cut_at_any_operation() {
    let root = folder();
    let script = Script::never_fails(root.path());
    let mut ledger = Ledger::default();
    scenario(&script.disk(), root.path(), &mut ledger).unwrap();
    check_all_states(&script, &ledger, "no cut");
    let count = script.operation_count();
    assert!(count >= 60, "too small to prove anything: {:#?}", script.log());
    for number in 0..count {
        let root = folder();
        let script = Script::cuts_power_at(root.path(), number);
        let mut ledger = Ledger::default();
        // The very last operations only tidy up, and close tolerates their failure or not.
        let _ = scenario(&script.disk(), root.path(), &mut ledger);
        assert!(script.has_fired(), "operation {number} never came");
        check_all_states(&script, &ledger, &format!("cut at {number}"));
    }
}

#[test]
fn files_and_rows_agree_after_a_failure_of_any_operation() {
    let root = folder();
    let counter = Script::never_fails(root.path());
    scenario(&counter.disk(), root.path(), &mut Ledger::default()).unwrap();
    for number in 0..counter.operation_count() {
        let root = folder();
        let script = Script::fails_at(root.path(), number, Fault::Io);
        let mut ledger = Ledger::default();
        let _ = scenario(&script.disk(), root.path(), &mut ledger);
        check_all_states(&script, &ledger, &format!("failure at {number}"));
    }
}
