//! The daemon dies while containers run.

use corten_tests::eventually;

use crate::fixture::Fixture;

#[test]
fn containers_outlive_a_daemon_that_is_killed() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.detached(&[], "stays", &["sleep", "1000"]);
    let release = fixture.daemon.path("release");
    std::fs::create_dir(&release).unwrap();
    let mount = format!("type=bind,src={},dst=/release,options=rbind:ro", release.display());
    let script = "until test -e /release/now; do sleep 0.1; done; exit 9";
    fixture.detached(&["--mount", &mount], "leaves", &["sh", "-c", script]);
    let pid = |fixture: &Fixture, id: &str| {
        let list = fixture.ctr.ok(&["tasks", "ls"]).unwrap();
        list.lines()
            .find(|line| line.starts_with(id))
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
    };
    let (stays, leaves) = (pid(&fixture, "stays").unwrap(), pid(&fixture, "leaves").unwrap());

    fixture.daemon.kill().unwrap();
    std::fs::write(release.join("now"), "").unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{leaves}"));
    eventually("the container to end while no daemon runs", || {
        let state = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    })
    .unwrap();
    fixture.daemon.restart().unwrap();

    assert_eq!(pid(&fixture, "stays"), Some(stays), "it is the same process");
    assert_eq!(fixture.status("stays").as_deref(), Some("RUNNING"));
    eventually("the exit to be known", || {
        (fixture.status("leaves").as_deref() == Some("STOPPED")).then_some(())
    })
    .unwrap();
    let run =
        fixture.ctr.run(&["tasks", "exec", "--exec-id", "after", "stays", "sh", "-c", "exit 6"]).unwrap();
    assert_eq!(run.code, 6, "{}", run.stderr);

    let waiter = fixture.ctr.spawn(&["tasks", "attach", "stays"]).unwrap();
    fixture.ctr.ok(&["tasks", "kill", "-s", "SIGKILL", "stays"]).unwrap();
    let output = waiter.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
    // A client that is attached deletes the task that it saw end.
    let run = fixture.ctr.run(&["tasks", "delete", "leaves"]).unwrap();
    assert!(run.stderr.contains("exit code 9"), "{}", run.stderr);
    for id in ["leaves", "stays"] {
        fixture.ctr.ok(&["containers", "delete", id]).unwrap();
    }
    fixture.finish();
}

#[test]
fn a_clean_stop_leaves_containers_running_and_state_whole() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.detached(&[], "stays", &["sleep", "1000"]);
    fixture.daemon.stop().unwrap();
    fixture.daemon.restart().unwrap();
    assert_eq!(fixture.status("stays").as_deref(), Some("RUNNING"));
    assert!(fixture.ctr.ok(&["images", "ls", "-q"]).unwrap().contains(&fixture.image.name));
    fixture.remove("stays");
    fixture.finish();
}

#[test]
fn a_shim_that_is_killed_is_an_exit_with_137_and_leaves_nothing() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.detached(&[], "orphan", &["sleep", "1000"]);
    let shim = shim_of(&fixture, "orphan");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(shim).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("the task to go", || fixture.status("orphan").is_none().then_some(())).unwrap();
    fixture.ctr.ok(&["containers", "delete", "orphan"]).unwrap();
    fixture.finish();
}

/// The parent of a task's first process.
pub(crate) fn shim_of(fixture: &Fixture, id: &str) -> i32 {
    let list = fixture.ctr.ok(&["tasks", "ls"]).unwrap();
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(id)).unwrap();
    let pid = line.split_whitespace().nth(1).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}
