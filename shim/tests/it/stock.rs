//! Our shim under a stock containerd, driven by its `ctr`.

use std::{io::Write, process::Stdio};

use corten_tests::Pty;
use rustix::process::{Pid, Signal, kill_process};

use crate::{image::IMAGE, leaks, root_or_skip, under_containerd::Containerd, until};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn run_passes_streams_and_exit_codes() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    let id = daemon.id("streams");
    let output = daemon.output(&["run", "--rm", IMAGE, &id, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"out\n");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("err\n"), "{output:?}");
    // The first process of a namespace cannot kill itself, but it can pass on how its child ended.
    let killed = "sh -c 'kill -9 $$'; exit $?";
    for (name, script, code) in [("zero", "true", 0), ("one", "exit 1", 1), ("killed", killed, 137)] {
        let id = daemon.id(name);
        let output = daemon.output(&["run", "--rm", IMAGE, &id, "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
    }
    let id = daemon.id("input");
    let mut child = daemon
        .ctr(&["run", "--rm", IMAGE, &id, "head", "-n", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"typed\nmore\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"typed\n".as_slice()));
    daemon.finish();
}

#[test]
fn a_task_is_executed_in_paused_measured_and_killed() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    let id = daemon.run_detached("task", &["sleep", "1000"]);
    let shim = daemon.shim(&id);
    let (pid, status) = daemon.task(&id).unwrap();
    assert_eq!(status, "RUNNING");
    let output = daemon.output(&["tasks", "exec", "--exec-id", "a", &id, "sh", "-c", "echo hi; exit 7"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"hi\n".as_slice()), "{output:?}");
    assert_eq!(daemon.ok(&["tasks", "exec", "--exec-id", "b", "--user", "1000", &id, "id", "-u"]), "1000\n");
    assert!(daemon.ok(&["tasks", "ps", &id]).contains(&pid.to_string()));
    let metrics = daemon.ok(&["tasks", "metrics", &id]);
    assert!(metrics.contains("pids.current") && metrics.contains("memory.usage_in_bytes"), "{metrics}");
    daemon.ok(&["tasks", "pause", &id]);
    assert_eq!(daemon.task(&id).unwrap().1, "PAUSED");
    daemon.ok(&["tasks", "resume", &id]);
    daemon.ok(&["tasks", "kill", "-s", "9", &id]);
    daemon.until_stopped(&id);
    let deleted = daemon.output(&["tasks", "delete", &id]);
    assert!(String::from_utf8_lossy(&deleted.stderr).contains("137"), "{deleted:?}");
    daemon.ok(&["containers", "delete", &id]);
    until("the end of the shim", || leaks::ended(shim));
    daemon.finish();
}

#[test]
fn a_terminal_works_for_run_and_exec() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    // Types only what a prompt asks for: what is typed before a program has set up its terminal may be lost.
    let typed = |arguments: &[&str], exit: &str| {
        let mut terminal = Pty::spawn(daemon.ctr(arguments)).unwrap();
        terminal.wait_for("# ").unwrap();
        terminal.type_in("tty\n").unwrap();
        terminal.wait_for("/dev/pts/").unwrap();
        terminal.type_in(exit).unwrap();
        terminal.wait().unwrap().code()
    };
    let id = daemon.id("terminal");
    assert_eq!(typed(&["run", "--rm", "-t", IMAGE, &id, "sh"], "exit 4\n"), Some(4));
    let id = daemon.run_detached("shell", &["sleep", "1000"]);
    assert_eq!(typed(&["tasks", "exec", "-t", "--exec-id", "t", &id, "sh"], "exit 6\n"), Some(6));
    daemon.remove(&id);
    daemon.finish();
}

#[test]
fn want_of_memory_is_an_event() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    let events = daemon.path().join("events");
    let mut listener = daemon
        .ctr(&["events"])
        .stdout(std::fs::File::create(&events).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let seen = |topic: &str| std::fs::read_to_string(&events).unwrap().contains(topic);
    // The stream is open when it shows what is done over and over.
    let mut number = 0;
    until("the stream of events", || {
        number += 1;
        daemon.ok(&["containers", "create", IMAGE, &format!("probe-{number}"), "true"]);
        seen("/containers/create")
    });
    let id = daemon.id("hungry");
    let output = daemon.output(&[
        "run",
        "--rm",
        "--memory-limit",
        "20971520",
        IMAGE,
        &id,
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=200M",
        "count=1",
    ]);
    assert_eq!(output.status.code(), Some(137), "{output:?}");
    until("the event", || seen("/tasks/oom"));
    let _ = listener.kill();
    let _ = listener.wait();
    daemon.finish();
}

#[test]
fn twenty_containers_start_at_once() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    let running: Vec<_> = (0..20)
        .map(|number| {
            let id = daemon.id(&format!("many-{number}"));
            let script = format!("echo {number}; exit {number}");
            daemon
                .ctr(&["run", "--rm", IMAGE, &id, "sh", "-c", &script])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in running.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(i32::try_from(number).unwrap()), "{output:?}");
        assert_eq!(output.stdout, format!("{number}\n").as_bytes());
    }
    daemon.finish();
}

#[test]
fn containers_survive_the_death_of_the_daemon() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    let stays = daemon.run_detached("stays", &["sleep", "1000"]);
    let ends = daemon.run_detached("ends", &["sleep", "1000"]);
    let (shim, (stays_pid, _), (ends_pid, _)) =
        (daemon.shim(&stays), daemon.task(&stays).unwrap(), daemon.task(&ends).unwrap());
    daemon.kill();
    kill(ends_pid);
    daemon.start();
    assert_eq!(daemon.task(&stays).unwrap(), (stays_pid, "RUNNING".to_owned()));
    assert_eq!(daemon.shim(&stays), shim);
    daemon.until_stopped(&ends);
    assert_eq!(daemon.ok(&["tasks", "exec", "--exec-id", "x", &stays, "echo", "still here"]), "still here\n");
    daemon.remove(&stays);
    let deleted = daemon.output(&["tasks", "delete", &ends]);
    assert!(String::from_utf8_lossy(&deleted.stderr).contains("137"), "{deleted:?}");
    daemon.ok(&["containers", "delete", &ends]);
    daemon.finish();
}

#[test]
fn the_death_of_a_shim_ends_its_container_and_leaves_nothing() {
    root_or_skip!("containerd", "ctr");
    let daemon = Containerd::new();
    let id = daemon.run_detached("orphan", &["sleep", "1000"]);
    let (shim, (pid, _)) = (daemon.shim(&id), daemon.task(&id).unwrap());
    kill(shim);
    until("the end of the container", || leaks::ended(pid));
    until("the end of the task", || daemon.task(&id).is_none());
    daemon.ok(&["containers", "delete", &id]);
    daemon.finish();
}
