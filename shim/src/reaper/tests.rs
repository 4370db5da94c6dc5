use std::{sync::Arc, time::SystemTime};

use super::{Exit, Reaper};

/// Taken by tests that reap: two reapers in one process take exits away from each other.
pub(crate) static ONLY_REAPER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn exit(pid: u32, code: i32) -> Exit {
    Exit { pid, raw: code << 8, at: SystemTime::UNIX_EPOCH }
}

#[test]
fn codes_are_those_of_a_shell() {
    assert_eq!(exit(1, 3).code(), 3);
    assert_eq!(Exit { pid: 1, raw: 9, at: SystemTime::UNIX_EPOCH }.code(), 137);
}

#[test]
fn an_exit_that_comes_before_its_process_is_known_is_kept_for_it() {
    let reaper = Arc::new(Reaper::default());
    let start = reaper.expect_start();
    reaper.lock().deliver(exit(41, 1));
    reaper.lock().deliver(exit(42, 2));
    assert_eq!(start.claim(42).try_recv().unwrap().code(), 2);
    let mut later = start.claim(43);
    assert!(later.try_recv().is_err());
    reaper.lock().deliver(exit(43, 4));
    assert_eq!(later.try_recv().unwrap().code(), 4);
    drop(start);
    assert!(reaper.lock().unclaimed.is_empty(), "nothing is kept when no start may claim it");
}

#[test]
fn exits_from_before_a_start_are_not_its_own() {
    let reaper = Arc::new(Reaper::default());
    let first = reaper.expect_start();
    reaper.lock().deliver(exit(50, 1));
    let second = reaper.expect_start();
    assert!(second.claim(50).try_recv().is_err());
    assert!(first.claim(50).try_recv().is_ok());
    drop(first);
    assert!(reaper.lock().unclaimed.is_empty(), "the second start cannot claim what came before it");
    drop(second);
}

#[test]
fn without_a_start_unknown_exits_are_forgotten_at_once() {
    let reaper = Arc::new(Reaper::default());
    for pid in 1..1000 {
        reaper.lock().deliver(exit(pid, 0));
    }
    assert!(reaper.lock().unclaimed.is_empty());
}
