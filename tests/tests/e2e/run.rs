//! `ctr run`.

use crate::fixture::Fixture;

#[test]
fn output_errors_and_input_are_passed_through() {
    let Some(fixture) = Fixture::new() else { return };
    let run = fixture.run(&["--rm"], "out", &["sh", "-c", "echo to-out; echo to-err >&2"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "to-out\n"), "{}", run.stderr);
    assert!(run.stderr.contains("to-err\n"), "{}", run.stderr);

    let id = fixture.daemon.container("in");
    let words = fixture.words("run", &["--rm"], &id, &["sh", "-c", "read line; echo got $line"]);
    let run = fixture.ctr.run_with_input(&words, b"a line\nand one more\n").unwrap();
    assert_eq!((run.code, run.stdout.as_str()), (0, "got a line\n"), "{}", run.stderr);
    fixture.finish();
}

#[test]
fn exit_codes_are_those_of_the_process() {
    let Some(fixture) = Fixture::new() else { return };
    for (id, command, code) in [
        ("zero", vec!["true"], 0),
        ("one", vec!["false"], 1),
        ("seven", vec!["sh", "-c", "exit 7"], 7),
        ("killed", vec!["sh", "-c", "kill -9 $$; sleep 60"], 137),
    ] {
        // The first process of a pid namespace ignores its own SIGKILL, so a child is killed and its code handed on.
        let command = if code == 137 { vec!["sh", "-c", "sh -c 'kill -9 $$'; exit $?"] } else { command };
        let run = fixture.run(&["--rm"], id, &command);
        assert_eq!(run.code, code, "{id}: {}", run.stderr);
    }
    fixture.finish();
}

#[test]
fn a_task_that_is_killed_exits_with_137() {
    let Some(fixture) = Fixture::new() else { return };
    let id = fixture.daemon.container("victim");
    let child = fixture.ctr.spawn(&fixture.words("run", &["--rm"], &id, &["sleep", "1000"])).unwrap();
    corten_tests::eventually("the task to run", || {
        (fixture.status("victim").as_deref() == Some("RUNNING")).then_some(())
    })
    .unwrap();
    fixture.ctr.ok(&["tasks", "kill", "-s", "SIGKILL", "victim"]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
    fixture.finish();
}

#[test]
fn options_of_run_have_their_effect() {
    let Some(fixture) = Fixture::new() else { return };
    let run = fixture.run(&["--rm", "--read-only"], "ro", &["sh", "-c", "echo x > /file"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("Read-only file system"), "{}", run.stderr);

    let run = fixture.run(&["--rm", "--env", "COLOUR=red"], "env", &["sh", "-c", "echo $COLOUR"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "red\n"), "{}", run.stderr);

    std::fs::create_dir(fixture.daemon.path("host")).unwrap();
    std::fs::write(fixture.daemon.path("host/file"), "from the host\n").unwrap();
    let mount = format!("type=bind,src={},dst=/host,options=rbind:ro", fixture.daemon.path("host").display());
    let run = fixture.run(&["--rm", "--mount", &mount], "mount", &["cat", "/host/file"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "from the host\n"), "{}", run.stderr);

    let run = fixture.run(&["--rm", "--net-host"], "net", &["cat", "/proc/self/net/dev"]);
    let ours = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), ours.lines().count(), "{}", run.stdout);

    fixture.finish();
}

#[test]
fn the_native_snapshotter_runs_containers_too() {
    let Some(fixture) = Fixture::new() else { return };
    let archive = fixture.image.archive.to_str().unwrap();
    fixture.ctr.ok(&["images", "import", "--snapshotter", "native", archive]).unwrap();
    let run = fixture.run(&["--rm", "--snapshotter", "native"], "native", &["cat", "/etc/motd"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "made of busybox\n"), "{}", run.stderr);
    fixture.finish();
}

#[test]
fn a_container_above_its_memory_limit_is_killed_and_an_event_says_so() {
    let Some(fixture) = Fixture::new() else { return };
    let log = fixture.daemon.path("events");
    let file = std::fs::File::create(&log).unwrap();
    let mut watcher =
        fixture.ctr.command(&["events"]).stdout(file).stderr(std::process::Stdio::null()).spawn().unwrap();
    let run = fixture.run(
        &["--rm", "--memory-limit", "20000000"],
        "hungry",
        &["sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M count=1; exit $?"],
    );
    assert_eq!(run.code, 137, "{}", run.stderr);
    corten_tests::eventually("the event of the memory", || {
        std::fs::read_to_string(&log).unwrap().contains("/tasks/oom").then_some(())
    })
    .unwrap();
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    fixture.finish();
}
