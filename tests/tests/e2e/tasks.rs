//! `ctr tasks`.

use corten_tests::eventually;

use crate::fixture::Fixture;

#[test]
fn a_task_is_listed_paused_resumed_measured_and_deleted() {
    let Some(fixture) = Fixture::new() else { return };
    let ctr = &fixture.ctr;
    fixture.detached(&[], "task", &["sleep", "1000"]);
    assert_eq!(fixture.status("task").as_deref(), Some("RUNNING"));
    let processes = ctr.ok(&["tasks", "ps", "task"]).unwrap();
    assert_eq!(processes.lines().count(), 2, "{processes}");

    ctr.ok(&["tasks", "pause", "task"]).unwrap();
    assert_eq!(fixture.status("task").as_deref(), Some("PAUSED"));
    ctr.ok(&["tasks", "resume", "task"]).unwrap();
    assert_eq!(fixture.status("task").as_deref(), Some("RUNNING"));

    let metrics = ctr.ok(&["tasks", "metrics", "task"]).unwrap();
    assert!(metrics.contains("memory.usage_in_bytes") || metrics.contains("memory.usage"), "{metrics}");
    let refused = ctr.refused(&["tasks", "delete", "task"]).unwrap();
    assert!(refused.contains("must be stopped") || refused.contains("failed precondition"), "{refused}");
    let refused = ctr.refused(&["tasks", "pause", "nobody"]).unwrap();
    assert!(refused.contains("not found"), "{refused}");

    ctr.ok(&["tasks", "kill", "-s", "SIGKILL", "task"]).unwrap();
    eventually("the task to stop", || (fixture.status("task").as_deref() == Some("STOPPED")).then_some(()))
        .unwrap();
    let again = ctr.refused(&["tasks", "kill", "-s", "SIGKILL", "task"]).unwrap();
    assert!(again.contains("not found") || again.contains("already finished"), "{again}");
    let run = ctr.run(&["tasks", "delete", "task"]).unwrap();
    assert!(run.stderr.contains("exit code 137"), "{}", run.stderr);
    assert_eq!(fixture.status("task"), None);
    ctr.ok(&["containers", "delete", "task"]).unwrap();
    fixture.finish();
}

#[test]
fn processes_are_executed_beside_the_first() {
    let Some(fixture) = Fixture::new() else { return };
    let ctr = &fixture.ctr;
    fixture.detached(&[], "exec", &["sleep", "1000"]);
    let exec = |words: &[&str]| {
        let mut all = vec!["tasks", "exec"];
        all.extend(words);
        ctr.run(&all).unwrap()
    };
    let run = exec(&["--exec-id", "one", "exec", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, "out\n"));
    assert!(run.stderr.contains("err\n"), "{}", run.stderr);
    let run = exec(&["--exec-id", "two", "--user", "1000", "exec", "id", "-u"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "1000\n"), "{}", run.stderr);
    let run = exec(&["--exec-id", "three", "--cwd", "/etc", "exec", "cat", "motd"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "made of busybox\n"), "{}", run.stderr);
    let run = exec(&["--exec-id", "four", "exec", "/no/such/program"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("no such file or directory"), "{}", run.stderr);
    let run = exec(&["--exec-id", "a..b", "exec", "true"]);
    assert!(run.stderr.contains("invalid argument"), "{}", run.stderr);
    fixture.remove("exec");
    fixture.finish();
}

#[test]
fn a_detached_exec_is_listed_and_killed() {
    let Some(fixture) = Fixture::new() else { return };
    let ctr = &fixture.ctr;
    fixture.detached(&[], "host", &["sleep", "1000"]);
    ctr.ok(&["tasks", "exec", "-d", "--exec-id", "guest", "host", "sleep", "1000"]).unwrap();
    let processes = ctr.ok(&["tasks", "ps", "host"]).unwrap();
    assert!(processes.lines().count() == 3 && processes.contains("guest"), "{processes}");
    ctr.ok(&["tasks", "kill", "--exec-id", "guest", "-s", "SIGKILL", "host"]).unwrap();
    eventually("the exec to go", || {
        (ctr.ok(&["tasks", "ps", "host"]).unwrap().lines().count() == 2).then_some(())
    })
    .unwrap();
    ctr.run(&["tasks", "delete", "--exec-id", "guest", "host"]).unwrap();
    fixture.remove("host");
    fixture.finish();
}

#[test]
fn a_client_attaches_to_a_task_and_sees_its_exit() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.detached(&[], "attach", &["sleep", "1000"]);
    let client = fixture.ctr.spawn(&["tasks", "attach", "attach"]).unwrap();
    fixture.ctr.ok(&["tasks", "kill", "-s", "SIGKILL", "attach"]).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
    fixture.ctr.run(&["tasks", "delete", "attach"]).unwrap();
    fixture.ctr.ok(&["containers", "delete", "attach"]).unwrap();
    fixture.finish();
}
