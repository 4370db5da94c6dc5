use super::*;

fn exit(process: &str, pid: u32) -> ExitKey {
    ExitKey { task: Key::new(&"default".parse().unwrap(), "web"), process: process.into(), pid }
}

#[test]
fn an_exit_is_new_once() {
    let exits = Exits::default();
    assert!(exits.record(exit("web", 7)));
    assert!(!exits.record(exit("web", 7)));
    assert!(exits.record(exit("web", 8)));
    assert!(exits.record(exit("shell", 7)));
}

#[test]
fn a_process_that_started_anew_has_an_exit_of_its_own() {
    let exits = Exits::default();
    exits.record(exit("web", 7));
    exits.forget(&exit("web", 7));
    assert!(exits.record(exit("web", 7)));
}

#[test]
fn the_oldest_is_forgotten_at_the_limit_and_not_before() {
    let exits = Exits::default();
    for pid in 0..u32::try_from(MAX_RECORDED_EXITS).unwrap() {
        assert!(exits.record(exit("web", pid)));
    }
    assert!(!exits.record(exit("web", 0)), "at the limit all are known");
    assert!(exits.record(exit("web", u32::MAX)));
    assert!(exits.record(exit("web", 0)), "one past it the oldest is not");
    assert!(!exits.record(exit("web", 2)));
}
