//! A daemon that ends and begins again while containers run.

use std::{fs, process::Command, time::Duration};

use corten_tasks::{Recovery, Status};
use corten_types::ErrorKind;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Shim,
    container::{spec_any, spec_json},
    daemon::{Daemon, eventually, runs},
    with_both_shims,
};

with_both_shims!(
    a_running_container_is_found_again_and_can_be_waited_for,
    an_exit_while_no_daemon_ran_is_known_and_published_once,
    a_shim_that_died_while_no_daemon_ran_is_cleaned_up,
    a_frozen_shim_is_unavailable_and_comes_back,
    a_daemon_that_ends_while_it_recovers_harms_nothing,
    what_a_crash_left_is_removed,
    a_group_is_found_again_over_one_shim,
    an_address_file_is_enough,
    a_shim_without_a_container_is_ended,
);

async fn restart(daemon: &mut Daemon) -> Recovery {
    daemon.stop().await;
    daemon.begin().await;
    daemon.tasks().recover().await.unwrap()
}

async fn a_running_container_is_found_again_and_can_be_waited_for(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    let pid = daemon.run("survivor", &["/bin/sleep", "1000"]).await;
    assert_eq!(restart(&mut daemon).await, Recovery { reconnecting: 1, removed: 0 });
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    // Before anything was waited for: it is there.
    let found = tasks.get(namespace, "survivor", "").await.unwrap();
    assert_eq!((found.pid, found.status), (pid, Status::Running));
    tasks.recovered().await;
    let again = tasks.create(daemon.options("survivor", &["/bin/true"])).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    tasks.kill(namespace, "survivor", "", 9, true).await.unwrap();
    assert_eq!(tasks.wait(namespace, "survivor", "").await.unwrap().status, 137);
    assert_eq!(daemon.exit_of("survivor").await.exit_status, 137);
    assert_eq!(tasks.delete(namespace, "survivor").await.unwrap().pid, pid);
    daemon.finish().await;
}

async fn an_exit_while_no_daemon_ran_is_known_and_published_once(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    let pid = daemon.run("lost", &["/bin/sleep", "1000"]).await;
    daemon.stop().await;
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    eventually("the container has ended", || !runs(pid)).await;
    daemon.begin().await;
    daemon.tasks().recover().await.unwrap();
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    assert_eq!(tasks.wait(namespace, "lost", "").await.unwrap().status, 137);
    let stopped = tasks.get(namespace, "lost", "").await.unwrap();
    assert_eq!((stopped.status, stopped.exit_status), (Status::Stopped, 137));
    let exit = daemon.exit_of("lost").await;
    assert_eq!((exit.pid, exit.exit_status), (pid, 137));
    assert_eq!(tasks.delete(namespace, "lost").await.unwrap().status, 137);
    // The shim forwards in order: what it repeats comes before its deletion.
    daemon.deletion_of("lost").await;
    assert_eq!(daemon.exits().len(), 1, "{:?}", daemon.exits());
    daemon.finish().await;
}

async fn a_shim_that_died_while_no_daemon_ran_is_cleaned_up(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    let pid = daemon.run("dead", &["/bin/sleep", "1000"]).await;
    daemon.run("alive", &["/bin/sleep", "1000"]).await;
    daemon.stop().await;
    daemon.kill_shim("dead");
    eventually("the shim has ended", || daemon.shim_pids().len() == 1).await;
    daemon.begin().await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    assert_eq!(tasks.recover().await.unwrap().reconnecting, 2);
    tasks.recovered().await;
    let exit = daemon.exit_of("dead").await;
    assert_eq!((exit.pid, exit.exit_status), (pid, 137));
    assert_eq!(daemon.deletion_of("dead").await.exit_status, 137);
    assert_eq!(tasks.get(namespace, "dead", "").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!daemon.bundle("dead").exists());
    assert!(!runs(pid), "the container runs on");
    assert_eq!(tasks.list(namespace).await.len(), 1);
    tasks.kill(namespace, "alive", "", 9, true).await.unwrap();
    tasks.wait(namespace, "alive", "").await.unwrap();
    tasks.delete(namespace, "alive").await.unwrap();
    daemon.finish().await;
}

async fn a_frozen_shim_is_unavailable_and_comes_back(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    daemon.timeouts.load = Duration::from_millis(300);
    daemon.timeouts.state = Duration::from_millis(100);
    let pid = daemon.run("slow", &["/bin/sleep", "1000"]).await;
    daemon.run("quick", &["/bin/sleep", "1000"]).await;
    let shim_pid = Pid::from_raw(daemon.shim_pid("slow")).unwrap();
    kill_process(shim_pid, Signal::STOP).unwrap();
    restart(&mut daemon).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let refused = tasks.get(namespace, "slow", "").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "never NotFound: {refused:?}");
    let refused = tasks.create(daemon.options("slow", &["/bin/true"])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    tasks.recovered().await;
    assert_eq!(tasks.get(namespace, "quick", "").await.unwrap().status, Status::Running);
    let listed: Vec<_> =
        tasks.list(namespace).await.into_iter().map(|process| (process.id, process.status)).collect();
    assert_eq!(listed, [("quick".to_owned(), Status::Running), ("slow".to_owned(), Status::Unknown)]);
    assert!(daemon.exits().is_empty());

    kill_process(shim_pid, Signal::CONT).unwrap();
    eventually("the task is back", || futures::executor::block_on(tasks.get(namespace, "slow", "")).is_ok())
        .await;
    assert_eq!(tasks.get(namespace, "slow", "").await.unwrap().pid, pid);
    // Frozen again while it is known: it drops out of the list, and nothing is cleaned up (K11).
    kill_process(shim_pid, Signal::STOP).unwrap();
    assert_eq!(tasks.list(namespace).await.len(), 1);
    let late = tasks.get(namespace, "slow", "").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    kill_process(shim_pid, Signal::CONT).unwrap();
    for id in ["slow", "quick"] {
        tasks.kill(namespace, id, "", 9, true).await.unwrap();
        assert_eq!(tasks.wait(namespace, id, "").await.unwrap().status, 137);
        tasks.delete(namespace, id).await.unwrap();
    }
    daemon.finish().await;
}

async fn a_daemon_that_ends_while_it_recovers_harms_nothing(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    let pid = daemon.run("slow", &["/bin/sleep", "1000"]).await;
    let shim_pid = Pid::from_raw(daemon.shim_pid("slow")).unwrap();
    kill_process(shim_pid, Signal::STOP).unwrap();
    restart(&mut daemon).await;
    restart(&mut daemon).await;
    kill_process(shim_pid, Signal::CONT).unwrap();
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let found = tasks.get(namespace, "slow", "").await.unwrap();
    assert_eq!((found.pid, found.status), (pid, Status::Running));
    assert!(daemon.bundle("slow").join("work").canonicalize().is_ok(), "the work folder is gone");
    tasks.kill(namespace, "slow", "", 9, true).await.unwrap();
    tasks.wait(namespace, "slow", "").await.unwrap();
    tasks.delete(namespace, "slow").await.unwrap();
    daemon.finish().await;
}

async fn what_a_crash_left_is_removed(shim: Shim) {
    let mut daemon = Daemon::start(shim.clone()).await;
    daemon.run("kept", &["/bin/sleep", "1000"]).await;
    daemon.stop().await;
    fs::create_dir(daemon.bundle("empty")).unwrap();
    fs::create_dir_all(daemon.bundle(".half").join("rootfs")).unwrap();
    fs::write(daemon.bundle(".half").join("config.json"), "{}").unwrap();
    fs::create_dir_all(daemon.bundle("unborn").join("rootfs")).unwrap();
    fs::write(daemon.bundle("unborn").join("config.json"), "{}").unwrap();
    fs::write(daemon.bundle("unborn").join("shim-binary-path"), shim.0.display().to_string()).unwrap();
    fs::create_dir_all(daemon.work().join("stale/folder")).unwrap();
    fs::create_dir(daemon.bundle("not a task")).unwrap();
    daemon.begin().await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    assert_eq!(tasks.recover().await.unwrap(), Recovery { reconnecting: 2, removed: 2 });
    tasks.recovered().await;
    eventually("the stale work folder is gone", || !daemon.work().join("stale").exists()).await;
    let mut left: Vec<_> =
        fs::read_dir(daemon.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["kept", "not a task"]);
    assert!(daemon.work().join("kept").exists());
    assert!(daemon.exits().is_empty(), "nobody was told of what was never made");
    fs::remove_dir(daemon.bundle("not a task")).unwrap();
    tasks.kill(namespace, "kept", "", 9, true).await.unwrap();
    tasks.wait(namespace, "kept", "").await.unwrap();
    tasks.delete(namespace, "kept").await.unwrap();
    daemon.finish().await;
}

async fn a_group_is_found_again_over_one_shim(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    for id in ["one", "two"] {
        let mut spec = spec_json(daemon.namespace.as_str(), id, &["/bin/sleep", "1000"]);
        spec["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "pod"});
        let mut options = daemon.options(id, &[]);
        options.spec = spec_any(&spec);
        daemon.create_with(options).await;
        daemon.tasks().start(&daemon.namespace, id, "").await.unwrap();
    }
    restart(&mut daemon).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    assert_eq!(tasks.list(namespace).await.len(), 2);
    for id in ["two", "one"] {
        tasks.kill(namespace, id, "", 9, true).await.unwrap();
        assert_eq!(tasks.wait(namespace, id, "").await.unwrap().status, 137);
        tasks.delete(namespace, id).await.unwrap();
    }
    daemon.finish().await;
}

/// Bundles of containerd 1.x have no `bootstrap.json` (H09, H75).
async fn an_address_file_is_enough(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    daemon.run("old", &["/bin/sleep", "1000"]).await;
    daemon.stop().await;
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(daemon.bundle("old").join("bootstrap.json")).unwrap()).unwrap();
    fs::write(daemon.bundle("old").join("address"), json["address"].as_str().unwrap()).unwrap();
    fs::remove_file(daemon.bundle("old").join("bootstrap.json")).unwrap();
    daemon.begin().await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    tasks.recover().await.unwrap();
    assert_eq!(tasks.get(namespace, "old", "").await.unwrap().status, Status::Running);
    let migrated: serde_json::Value =
        serde_json::from_slice(&fs::read(daemon.bundle("old").join("bootstrap.json")).unwrap()).unwrap();
    assert_eq!((&migrated["version"], &migrated["protocol"]), (&2.into(), &"ttrpc".into()));
    tasks.kill(namespace, "old", "", 9, true).await.unwrap();
    tasks.wait(namespace, "old", "").await.unwrap();
    tasks.delete(namespace, "old").await.unwrap();
    daemon.finish().await;
}

async fn a_shim_without_a_container_is_ended(shim: Shim) {
    let mut daemon = Daemon::start(shim.clone()).await;
    daemon.stop().await;
    // As a daemon leaves it that dies between the shim's start and the container's creation.
    let bundle = daemon.bundle("leaked");
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    fs::write(
        bundle.join("config.json"),
        spec_json(daemon.namespace.as_str(), "leaked", &["/bin/true"]).to_string(),
    )
    .unwrap();
    fs::write(bundle.join("shim-binary-path"), shim.0.display().to_string()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bundle.join("log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let reader = fs::OpenOptions::new().read(true).write(true).open(bundle.join("log")).unwrap();
    let socket = daemon.path().join("d.sock").display().to_string();
    let started = Command::new(&shim.0)
        .args(["-namespace", daemon.namespace.as_str(), "-address", &socket, "-publish-binary", "/bin/true"])
        .args(["-id", "leaked", "start"])
        .current_dir(&bundle)
        .env("TTRPC_ADDRESS", format!("{socket}.ttrpc"))
        .env("GRPC_ADDRESS", &socket)
        .env("MAX_SHIM_VERSION", "2")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    fs::write(bundle.join("bootstrap.json"), &started.stdout).unwrap();
    assert_eq!(daemon.shim_pids().len(), 1);
    daemon.begin().await;
    daemon.tasks().recover().await.unwrap();
    daemon.tasks().recovered().await;
    let gone = daemon.tasks().get(&daemon.namespace, "leaked", "").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(daemon.topics().is_empty(), "{:?}", daemon.topics());
    drop(reader);
    daemon.finish().await;
}
