//! The ways in which an operation ends.

use std::sync::{Arc, Mutex, mpsc};

use corten_database::{Database, Doing, Refusal};
use corten_types::{Error, ErrorKind};

use crate::support::{folder, insert, numbers, open, put};

#[test]
fn a_committed_value_is_there_after_reopening() {
    let folder = folder();
    let path = folder.path().join("db");
    let (database, report) = open(&path);
    assert!(report.created && report.health.is_healthy() && !report.after_crash);
    assert_eq!(database.write(|connection| insert(connection, 1).map(|()| "value")).wait().unwrap(), "value");
    database.close().unwrap();
    database.close().unwrap();
    assert_eq!(put(&database, 2).wait().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(database.read(|_| Ok(())).unwrap_err().kind(), ErrorKind::Unavailable);
    drop(database);
    let (database, report) = open(&path);
    assert!(!report.created && report.health.is_healthy() && !report.after_crash, "{report:?}");
    assert_eq!(numbers(&database), [1]);
}

#[test]
fn a_refusal_undoes_the_changes_unless_it_says_commit() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let rolled_back = database.write(|connection| {
        insert(connection, 1)?;
        Err::<(), _>(Error::failed_precondition("not now").into())
    });
    assert_eq!(rolled_back.wait().unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let kept = database.write(|connection| {
        insert(connection, 2)?;
        Err::<(), _>(Refusal::Commit(Error::new(ErrorKind::AlreadyExists, "it is yours now")))
    });
    assert_eq!(kept.wait().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(numbers(&database), [2]);
}

#[test]
fn a_panic_becomes_an_internal_error_of_its_caller_only() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let error = database
        .write(|connection| {
            insert(connection, 1)?;
            if numbers_in(connection) > 0 {
                panic!("a bug");
            }
            Ok(())
        })
        .wait()
        .unwrap_err();
    assert_eq!((error.kind(), error.message().contains("a bug")), (ErrorKind::Internal, true));
    put(&database, 2).wait().unwrap();
    assert_eq!(numbers(&database), [2]);
}

fn numbers_in(connection: &corten_database::rusqlite::Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM pair", [], |row| row.get(0)).unwrap()
}

#[test]
fn an_operation_that_ends_the_transaction_itself_gets_an_error_and_harms_no_other() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let bad = database.write(|connection| {
        connection.execute_batch("ROLLBACK")?;
        Ok(())
    });
    let good = put(&database, 1);
    assert!(bad.wait().is_err());
    good.wait().unwrap();
    assert_eq!(numbers(&database), [1]);
}

#[test]
fn effects_run_after_the_commit_in_commit_order_and_before_the_answer() {
    let folder = folder();
    let database = Arc::new(open(&folder.path().join("db")).0);
    let seen: Arc<Mutex<Vec<i64>>> = Arc::default();
    let answers: Vec<_> = (0..50)
        .map(|number| {
            let (seen, reader) = (Arc::clone(&seen), Arc::downgrade(&database));
            database.write_then(
                move |connection| insert(connection, number).map(|()| number),
                move |value| {
                    let visible = numbers(&reader.upgrade().unwrap());
                    assert!(visible.contains(value.unwrap()), "the effect came before the commit");
                    seen.lock().unwrap().push(number);
                },
            )
        })
        .collect();
    for (number, answer) in answers.into_iter().enumerate() {
        answer.wait().unwrap();
        assert!(seen.lock().unwrap().len() > number, "the answer came before the effect");
    }
    assert!(seen.lock().unwrap().is_sorted());
    assert_eq!(seen.lock().unwrap().len(), 50);
}

#[test]
fn effects_see_the_error_of_a_commit_and_nothing_of_a_rollback() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let (sender, receiver) = mpsc::channel();
    for keep in [true, false] {
        let sender = sender.clone();
        let answer = database.write_then(
            move |_| {
                let error = Error::not_found("nothing");
                Err::<(), _>(if keep { Refusal::Commit(error) } else { Refusal::Rollback(error) })
            },
            move |result| sender.send((keep, result.unwrap_err().kind())).unwrap(),
        );
        answer.wait().unwrap_err();
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [(true, ErrorKind::NotFound)]);
}

#[test]
fn a_panicking_effect_loses_neither_its_answer_nor_the_writer() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let answer = database.write_then(|connection| insert(connection, 1), |_| panic!("an effect"));
    answer.wait().unwrap();
    put(&database, 2).wait().unwrap();
}

#[test]
fn errors_of_statements_have_the_class_that_fits() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    put(&database, 1).wait().unwrap();
    assert_eq!(put(&database, 1).wait().unwrap_err().kind(), ErrorKind::AlreadyExists);
    let missing = database.read(|connection| {
        let number: i64 = connection
            .query_row("SELECT number FROM pair WHERE number = 9", [], |row| row.get(0))
            .doing("no pair 9")?;
        Ok(number)
    });
    let error = missing.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "no pair 9"));
    let wrong = database.write(|connection| Ok(connection.execute("NONSENSE", [])?)).wait();
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn rows_can_carry_a_checksum_that_notices_every_change() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let sums: Vec<i64> = database
        .read(|connection| {
            let mut sums = Vec::new();
            for row in ["'a','b'", "'ab',''", "'a',x'62'", "1,2", "'1','2'", "NULL,1", "1,NULL", "1.0,2"] {
                sums.push(connection.query_row(&format!("SELECT crc32c({row})"), [], |row| row.get(0))?);
            }
            Ok(sums)
        })
        .unwrap();
    let mut distinct = sums.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), sums.len(), "{sums:?}");
}

#[test]
fn the_last_handle_may_go_with_an_effect() {
    let folder = folder();
    let path = folder.path().join("db");
    let database = Arc::new(open(&path).0);
    let (release, released) = mpsc::channel::<()>();
    let held = Arc::clone(&database);
    let answer = database.write_then(
        |connection| insert(connection, 1),
        move |_| {
            released.recv().unwrap();
            drop::<Arc<Database>>(held);
        },
    );
    drop(database);
    release.send(()).unwrap();
    answer.wait().unwrap();
}
