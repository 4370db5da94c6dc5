//! What follows when a shim is killed.

use std::{process::Command, sync::Arc};

use corten_tasks::ExecOptions;
use corten_types::ErrorKind;

use crate::{
    Shim,
    container::{process_any, spec_any, spec_json},
    daemon::{Daemon, eventually, runs, script},
    with_both_shims,
};

with_both_shims!(
    a_killed_shim_ends_its_container_with_137_and_leaves_nothing,
    a_known_exit_is_not_replaced_by_that_of_the_clean_up,
    the_execs_of_a_dead_shim_end_before_its_container,
    a_group_shares_one_shim_and_dies_with_it,
    a_task_can_be_made_again_right_after_its_shim_died,
    a_clean_up_that_fails_is_255_and_the_container_is_killed_all_the_same,
);

async fn a_killed_shim_ends_its_container_with_137_and_leaves_nothing(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let pid = daemon.run("victim", &["/bin/sleep", "1000"]).await;
    let waiter = {
        let (tasks, namespace) = (Arc::clone(tasks), namespace.clone());
        tokio::spawn(async move { tasks.wait(&namespace, "victim", "").await })
    };
    tasks.get(namespace, "victim", "").await.unwrap();
    daemon.kill_shim("victim");
    // From here on, a lookup waits for the clean-up and then does not find the task.
    let exit = daemon.exit_of("victim").await;
    assert_eq!((exit.container_id.as_str(), exit.pid, exit.exit_status), ("victim", pid, 137));
    assert!(exit.exited_at.is_some());
    let deletion = daemon.deletion_of("victim").await;
    assert_eq!((deletion.pid, deletion.exit_status), (pid, 137));
    assert_eq!(tasks.get(namespace, "victim", "").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tasks.kill(namespace, "victim", "", 9, true).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tasks.delete(namespace, "victim").await.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = waiter.await.unwrap().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::NotFound), "{refused:?}");
    assert!(!runs(pid), "the container runs on");
    assert_eq!(daemon.exits().len(), 1);
    daemon.finish().await;
}

async fn a_known_exit_is_not_replaced_by_that_of_the_clean_up(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("done", &["/bin/sh", "-c", "exit 7"]).await;
    tasks.wait(namespace, "done", "").await.unwrap();
    assert_eq!(daemon.exit_of("done").await.exit_status, 7);
    daemon.kill_shim("done");
    assert_eq!(daemon.deletion_of("done").await.exit_status, 7);
    assert_eq!(daemon.exits().len(), 1, "{:?}", daemon.exits());
    daemon.finish().await;
}

async fn the_execs_of_a_dead_shim_end_before_its_container(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("host", &["/bin/sleep", "1000"]).await;
    let options = ExecOptions { spec: Some(process_any(&["/bin/sleep", "1000"])), ..ExecOptions::default() };
    tasks.exec(namespace, "host", "guest", options).await.unwrap();
    let pid = tasks.start(namespace, "host", "guest").await.unwrap();
    daemon
        .published("the start of the exec", |all| {
            all.iter().find(|envelope| envelope.topic.as_str() == "/tasks/exec-started").map(|_| ())
        })
        .await;
    daemon.kill_shim("host");
    daemon.deletion_of("host").await;
    let exits = daemon.exits();
    let seen: Vec<_> = exits.iter().map(|exit| (exit.id.as_str(), exit.exit_status)).collect();
    assert_eq!(seen, [("guest", 137), ("host", 137)]);
    assert_eq!(exits[0].pid, pid);
    daemon.finish().await;
}

async fn a_group_shares_one_shim_and_dies_with_it(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    for id in ["one", "two", "three"] {
        let mut spec = spec_json(namespace.as_str(), id, &["/bin/sleep", "1000"]);
        spec["annotations"] = serde_json::json!({"io.containerd.runc.v2.group": "pod"});
        let mut options = daemon.options(id, &[]);
        options.spec = spec_any(&spec);
        daemon.create_with(options).await;
        tasks.start(namespace, id, "").await.unwrap();
    }
    assert_eq!(daemon.shim_pids().len(), 1);
    // The one that started the shim goes first; the others do not notice.
    tasks.kill(namespace, "one", "", 9, true).await.unwrap();
    assert_eq!(tasks.wait(namespace, "one", "").await.unwrap().status, 137);
    tasks.delete(namespace, "one").await.unwrap();
    assert_eq!(tasks.list(namespace).await.len(), 2);
    let shim = rustix::process::Pid::from_raw(daemon.shim_pids()[0].0).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    for id in ["two", "three"] {
        assert_eq!(daemon.deletion_of(id).await.exit_status, 137);
        assert_eq!(daemon.exit_of(id).await.exit_status, 137);
    }
    assert_eq!(daemon.exits().len(), 3);
    daemon.finish().await;
}

async fn a_task_can_be_made_again_right_after_its_shim_died(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("again", &["/bin/sleep", "1000"]).await;
    daemon.kill_shim("again");
    daemon.exit_of("again").await;
    daemon.run("again", &["/bin/true"]).await;
    assert_eq!(tasks.wait(namespace, "again", "").await.unwrap().status, 0);
    assert_eq!(tasks.delete(namespace, "again").await.unwrap().status, 0);
    daemon.finish().await;
}

async fn a_clean_up_that_fails_is_255_and_the_container_is_killed_all_the_same(shim: Shim) {
    let daemon = Daemon::start(shim.clone()).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let real = shim.0.display();
    let text =
        format!("for last; do :; done; [ $last = delete ] && echo no way >&2 && exit 1; exec {real} \"$@\"");
    let mut options = daemon.options("stubborn", &["/bin/sleep", "1000"]);
    options.runtime_path = script(&daemon, "failing-shim", &text).display().to_string();
    let pid = daemon.create_with(options).await;
    tasks.start(namespace, "stubborn", "").await.unwrap();
    daemon.kill_shim("stubborn");
    let exit = daemon.exit_of("stubborn").await;
    assert_eq!((exit.pid, exit.exit_status), (pid, 255));
    assert_eq!(daemon.deletion_of("stubborn").await.exit_status, 255);
    eventually("the container is dead", || !runs(pid)).await;
    assert!(!daemon.bundle("stubborn").exists());
    // The runtime's own record is what only the shim could remove.
    let root = format!("/run/containerd/runc/{namespace}");
    let removed =
        Command::new("runc").args(["--root", &root, "delete", "--force", "stubborn"]).status().unwrap();
    assert!(removed.success());
    daemon.finish().await;
}
