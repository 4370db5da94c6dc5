//! The disk fails below the database.

use std::{path::Path, sync::Arc};

use corten_database::{Database, rusqlite::Connection};
use corten_disk::{
    Disk,
    testing::{Fault, Script, Unsynced},
};
use corten_types::ErrorKind;

use crate::support::{Gate, folder, insert, numbers, open, options, put};

/// Makes SQLite itself run into its page limit: it gives up the whole transaction, savepoints and all.
fn overflow(connection: &Connection) -> Result<(), corten_database::Refusal> {
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    connection.pragma_update(None, "max_page_count", pages)?;
    // One row a statement: such a statement has no journal of its own to be undone with.
    let result = (0..100).try_for_each(|number| {
        let statement = "INSERT INTO pair VALUES (?1, hex(zeroblob(1500)))";
        connection.execute(statement, [1_000_000 + number]).map(drop)
    });
    connection.pragma_update(None, "max_page_count", 1 << 30)?;
    result?;
    Ok(())
}

#[test]
fn when_sqlite_gives_a_batch_up_each_operation_is_run_again_alone() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let before = put(&database, 1);
    let full = database.write(overflow);
    let after = put(&database, 2);
    gate.open();
    held.wait().unwrap();
    before.wait().unwrap();
    assert_eq!(full.wait().unwrap_err().kind(), ErrorKind::ResourceExhausted);
    after.wait().unwrap();
    assert_eq!(numbers(&database), [1, 2]);
    assert_eq!(database.statistics().replays, 1);
}

#[test]
fn an_operation_that_swallows_a_full_disk_is_not_taken_at_its_word() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let answer = database.write(|connection| {
        insert(connection, 1)?;
        assert!(overflow(connection).is_err());
        // By now there is no transaction left, and this would be one of its own.
        let _ = insert(connection, 3);
        Ok(())
    });
    assert!(answer.wait().is_err(), "its first insert is gone");
    assert_eq!(numbers(&database), [0_i64; 0]);
    put(&database, 2).wait().unwrap();
}

/// Opens, writes one by one and in a batch, copies the log, writes again, closes, opens, writes. Notes every number
/// that was acknowledged. Stops at the first open that fails.
fn scenario(disk: &Disk, path: &Path, acknowledged: &mut Vec<i64>) -> Vec<(i64, ErrorKind)> {
    let mut refused = Vec::new();
    let mut note = |number: i64, result: corten_types::Result<()>, acknowledged: &mut Vec<i64>| match result {
        Ok(()) => acknowledged.push(number),
        Err(error) => refused.push((number, error.kind())),
    };
    for round in [0, 10] {
        let Ok((database, report)) = Database::open(path, options(disk.clone())) else { return refused };
        assert!(report.health.is_healthy(), "{report:?}");
        note(round + 1, put(&database, round + 1).wait(), acknowledged);
        let gate = Gate::default();
        let held = gate.close_behind(&database);
        let batch: Vec<_> = (2..5).map(|number| (round + number, put(&database, round + number))).collect();
        gate.open();
        let _ = held.wait();
        for (number, answer) in batch {
            note(number, answer.wait(), acknowledged);
        }
        let _ = database.checkpoint();
        note(round + 5, put(&database, round + 5).wait(), acknowledged);
        let _ = database.close();
    }
    refused
}

fn assert_kept(script: &Script, acknowledged: &[i64], attempted: &[i64], what: &str) {
    for unsynced in Unsynced::ALL {
        let target = folder();
        script.after_power_loss(unsynced, target.path()).unwrap();
        let (database, report) = open(&target.path().join("db"));
        assert!(report.health.is_healthy(), "{what}, {unsynced:?}: {report:?}\n{:#?}", script.log());
        let found = numbers(&database);
        let lost: Vec<_> = acknowledged.iter().filter(|number| !found.contains(number)).collect();
        assert!(lost.is_empty(), "{what}, {unsynced:?}: lost {lost:?} of {found:?}\n{:#?}", script.log());
        assert!(found.iter().all(|number| attempted.contains(number)), "{what}, {unsynced:?}: {found:?}");
        put(&database, 100).wait().unwrap();
    }
}

const ATTEMPTED: [i64; 10] = [1, 2, 3, 4, 5, 11, 12, 13, 14, 15];

fn count_operations() -> usize {
    let folder = folder();
    let script = Script::never_fails(folder.path());
    let mut acknowledged = Vec::new();
    let refused = scenario(&script.disk(), &folder.path().join("db"), &mut acknowledged);
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(acknowledged, ATTEMPTED);
    assert_kept(&script, &acknowledged, &ATTEMPTED, "nothing failed");
    let count = script.operation_count();
    assert!(count >= 60, "too small to prove anything: {:#?}", script.log());
    count
}

#[test]
fn one_failed_operation_of_the_disk_never_loses_what_was_acknowledged() {
    for number in 0..count_operations() {
        for fault in [Fault::Io, Fault::Full] {
            let folder = folder();
            let script = Script::fails_at(folder.path(), number, fault);
            let mut acknowledged = Vec::new();
            let refused = scenario(&script.disk(), &folder.path().join("db"), &mut acknowledged);
            assert!(script.has_fired(), "operation {number} never came: {:#?}", script.log());
            let what = format!("{fault:?} at {number}");
            assert!(refused.is_empty(), "{what}: a single fault is mended by replaying, but {refused:?}");
            if acknowledged.len() < ATTEMPTED.len() {
                // The failure was in an open: the next one goes on.
                let (database, report) =
                    Database::open(&folder.path().join("db"), options(script.disk())).unwrap();
                assert!(report.health.is_healthy(), "{what}: {report:?}");
                put(&database, 15).wait().unwrap();
                acknowledged.push(15);
                drop(database);
            }
            assert_kept(&script, &acknowledged, &ATTEMPTED, &what);
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_every_acknowledged_change_whole() {
    for number in 0..count_operations() {
        let folder = folder();
        let script = Script::cuts_power_at(folder.path(), number);
        let mut acknowledged = Vec::new();
        scenario(&script.disk(), &folder.path().join("db"), &mut acknowledged);
        assert!(script.has_fired());
        assert_kept(&script, &acknowledged, &ATTEMPTED, &format!("power cut at {number}"));
    }
}

/// The number of the sync that the last of a few commits waits for.
fn last_log_sync(path: &Path, script: &Arc<Script>) -> usize {
    let (database, _) = Database::open(path, options(script.disk())).unwrap();
    put(&database, 1).wait().unwrap();
    put(&database, 2).wait().unwrap();
    let log = script.log();
    log.iter()
        .rposition(|line| line.ends_with("sync db-wal") || line.ends_with("sync the data of db-wal"))
        .unwrap()
}

#[test]
fn a_commit_that_fails_is_learnt_by_reopening_before_anybody_is_answered() {
    let counted = folder();
    let number = last_log_sync(&counted.path().join("db"), &Script::never_fails(counted.path()));
    let failing = folder();
    let script = Script::fails_at(failing.path(), number, Fault::Io);
    let (database, _) = Database::open(&failing.path().join("db"), options(script.disk())).unwrap();
    put(&database, 1).wait().unwrap();
    put(&database, 2).wait().unwrap();
    assert!(script.has_fired());
    let statistics = database.statistics();
    assert_eq!(
        (statistics.reopened, statistics.replays),
        (1, 0),
        "the commit was there, and was not done twice"
    );
    put(&database, 3).wait().unwrap();
    drop(database);
    assert_kept(&script, &[1, 2, 3], &[1, 2, 3], "the sync of the log failed");
}

#[test]
fn while_the_disk_is_gone_callers_hear_that_it_is_not_known() {
    let counted = folder();
    let number = last_log_sync(&counted.path().join("db"), &Script::never_fails(counted.path()));
    let failing = folder();
    let script = Script::cuts_power_at(failing.path(), number);
    let (database, _) = Database::open(&failing.path().join("db"), options(script.disk())).unwrap();
    put(&database, 1).wait().unwrap();
    for number in [2, 3] {
        let error = put(&database, number).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    drop(database);
    assert_kept(&script, &[1], &[1, 2], "the power went in the commit");
}
