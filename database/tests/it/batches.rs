//! Group commit: what is queued together is synced together.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Wake, Waker},
    thread,
};

use corten_database::{Database, Options};
use corten_types::{Error, ErrorKind};

use crate::support::{Gate, SCHEMA, folder, insert, numbers, open, put};

#[test]
fn operations_that_wait_are_committed_together() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let before = database.statistics();
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let answers: Vec<_> = (0..100).map(|number| put(&database, number)).collect();
    gate.open();
    held.wait().unwrap();
    answers.into_iter().for_each(|answer| answer.wait().unwrap());
    let after = database.statistics();
    assert_eq!(after.commits - before.commits, 2, "the gate's commit and one for the hundred");
    assert_eq!(after.batch_lengths.largest(), 100);
    assert_eq!(after.operations - before.operations, 101);
    assert!(after.wal_bytes > 0 && after.commit_micros.count() == after.commits);
    assert_eq!(after.wait_micros.count(), after.operations, "every caller's wait is counted");
}

#[test]
fn each_operation_of_a_batch_gets_its_own_result() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let answers: Vec<_> = (0..30)
        .map(|number| {
            database.write(move |connection| {
                insert(connection, number)?;
                if number % 3 == 0 { Err(Error::not_found("third").into()) } else { Ok(number) }
            })
        })
        .collect();
    gate.open();
    held.wait().unwrap();
    for (number, answer) in (0..).zip(answers) {
        match answer.wait() {
            Ok(value) => assert_eq!(value, number),
            Err(error) => assert_eq!((number % 3, error.kind()), (0, ErrorKind::NotFound)),
        }
    }
    assert_eq!(numbers(&database), (0..30).filter(|number| number % 3 != 0).collect::<Vec<_>>());
}

#[test]
fn sixteen_clients_share_each_sync() {
    sixteen_clients(|database, number| put(database, number).wait().unwrap());
}

#[test]
fn blocking_clients_share_syncs_too() {
    sixteen_clients(|database, number| database.run(move |connection| insert(connection, number)).unwrap());
}

/// Lets sixteen threads write at once, each forty numbers one after the other.
fn sixteen_clients(write: fn(&Database, i64)) {
    const CLIENTS: i64 = 16;
    const EACH: i64 = 40;
    // On a real disk, because the sync is what gathers them.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let database = Arc::new(open(&folder.path().join("db")).0);
    let start = Arc::new(Barrier::new(16));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (database, start) = (Arc::clone(&database), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                for number in 0..EACH {
                    write(&database, client * EACH + number);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(numbers(&database).len(), 640);
    let statistics = database.statistics();
    println!("{} operations in {} commits", statistics.operations, statistics.commits);
    assert!(statistics.commits < statistics.operations / 2, "{statistics:?}");
}

struct CountWakes(std::sync::atomic::AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn a_full_queue_makes_callers_wait_outside_and_lets_them_in_later() {
    let folder = folder();
    let options = Options { migrations: SCHEMA, queue_length: 2, ..Options::default() };
    let (database, _) = Database::open(&folder.path().join("db"), options).unwrap();
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let inside = [put(&database, 1), put(&database, 2)];
    let outside = put(&database, 3);
    let given_up = put(&database, 4);
    let blocking = put(&database, 5);
    let wakes = Arc::new(CountWakes(0.into()));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut outside = pin!(outside);
    assert!(outside.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(format!("{given_up:?}").contains("false"), "it is past the limit");
    drop(given_up);
    let blocked = thread::spawn(move || blocking.wait());
    gate.open();
    held.wait().unwrap();
    inside.into_iter().for_each(|answer| answer.wait().unwrap());
    blocked.join().unwrap().unwrap();
    while wakes.0.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    loop {
        match outside.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => break result.unwrap(),
            Poll::Pending => thread::yield_now(),
        }
    }
    assert_eq!(numbers(&database), [1, 2, 3, 5]);
}

#[test]
fn closing_serves_what_is_queued() {
    let folder = folder();
    let path = folder.path().join("db");
    let database = Arc::new(open(&path).0);
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let answers: Vec<_> = (0..10).map(|number| put(&database, number)).collect();
    let closing = Arc::clone(&database);
    let closer = thread::spawn(move || closing.close());
    gate.open();
    held.wait().unwrap();
    closer.join().unwrap().unwrap();
    answers.into_iter().for_each(|answer| answer.wait().unwrap());
}

#[test]
fn a_blocking_caller_that_is_alone_writes_on_its_own_thread() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let effect = Arc::new(std::sync::Mutex::new(None));
    let seen = Arc::clone(&effect);
    let ran = database
        .run_then(
            |connection| {
                insert(connection, 1)?;
                Ok(thread::current().id())
            },
            move |_| *seen.lock().unwrap() = Some(thread::current().id()),
        )
        .unwrap();
    assert_eq!((ran, *effect.lock().unwrap()), (thread::current().id(), Some(thread::current().id())));
    put(&database, 2).wait().unwrap();
    database.run_freeing(|connection| insert(connection, 3), |_| ()).unwrap();
    assert_eq!(numbers(&database), [1, 2, 3]);
    let statistics = database.statistics();
    assert_eq!(statistics.wait_micros.count(), statistics.operations);
}

#[test]
fn blocking_callers_wait_for_their_turn_and_keep_the_order() {
    let folder = folder();
    let database = Arc::new(open(&folder.path().join("db")).0);
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let queued = put(&database, 1);
    let other = Arc::clone(&database);
    let blocked = thread::spawn(move || {
        other.run(|connection| {
            assert_eq!(connection.query_row("SELECT count(*) FROM pair", [], |row| row.get::<_, i64>(0))?, 2);
            insert(connection, 2)?;
            Ok(thread::current().id())
        })
    });
    gate.open();
    held.wait().unwrap();
    queued.wait().unwrap();
    blocked.join().unwrap().unwrap();
    assert_eq!(numbers(&database), [1, 2]);
}

#[test]
fn a_panic_on_the_calling_thread_is_an_answer() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let error = database
        .run(|connection| {
            insert(connection, 1)?;
            if connection.is_autocommit() { Ok(()) } else { panic!("as the test wants") }
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    database.run(|connection| insert(connection, 2)).unwrap();
    assert_eq!(numbers(&database), [2]);
    database.close().unwrap();
    let error = database.run(|connection| insert(connection, 3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_visit_is_between_two_commits_and_keeps_nothing() {
    let folder = folder();
    let (database, _) = open(&folder.path().join("db"));
    let gate = Gate::default();
    let held = gate.close_behind(&database);
    let before = put(&database, 1);
    let visit = database.visit(|connection| {
        insert(connection, 7)?;
        Ok(connection.query_row("SELECT count(*) FROM pair", [], |row| row.get::<_, i64>(0))?)
    });
    let after = put(&database, 2);
    gate.open();
    held.wait().unwrap();
    before.wait().unwrap();
    assert_eq!(visit.wait().unwrap(), 4, "what came before it and what it did itself");
    after.wait().unwrap();
    assert_eq!(numbers(&database), [1, 2]);
    let commits = database.statistics().commits;
    database.visit(|_| Ok(())).wait().unwrap();
    assert_eq!(database.statistics().commits, commits);
}
