//! Many at once.

use std::thread;

use crate::fixture::Fixture;

const CONTAINERS: usize = 20;
const EXECS: usize = 200;
const EXECS_AT_ONCE: usize = 8;

#[test]
fn twenty_containers_started_at_once_all_end_with_their_own_code() {
    let Some(fixture) = Fixture::new() else { return };
    thread::scope(|scope| {
        for number in 0..CONTAINERS {
            let fixture = &fixture;
            scope.spawn(move || {
                let run = fixture.run(
                    &["--rm"],
                    &format!("many-{number}"),
                    &["sh", "-c", &format!("exit {number}")],
                );
                assert_eq!(run.code, i32::try_from(number).unwrap(), "{}", run.stderr);
            });
        }
    });
    fixture.finish();
}

#[test]
fn two_hundred_execs_in_one_container_all_end_with_their_own_code() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.detached(&[], "host", &["sleep", "1000"]);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", fixture.daemon.pid())).unwrap().count();
    let before = descriptors();
    thread::scope(|scope| {
        for lane in 0..EXECS_AT_ONCE {
            let fixture = &fixture;
            scope.spawn(move || {
                for number in (lane..EXECS).step_by(EXECS_AT_ONCE) {
                    let (id, script) = (format!("exec-{number}"), format!("exit {}", number % 100));
                    let words = ["tasks", "exec", "--exec-id", &id, "host", "sh", "-c", &script];
                    let run = fixture.ctr.run(&words).unwrap();
                    assert_eq!(run.code, i32::try_from(number % 100).unwrap(), "{id}: {}", run.stderr);
                }
            });
        }
    });
    corten_tests::eventually("the daemon's descriptors to be closed", || {
        (descriptors() <= before + 8).then_some(())
    })
    .unwrap();
    fixture.remove("host");
    fixture.finish();
}
