//! One container from its making to its end.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::SystemTime};

use corten_tasks::{CreateOptions, Status};
use corten_types::{Any, ErrorKind};

use crate::{
    Shim,
    container::{spec_any, spec_json},
    daemon::{Daemon, Fifo},
    with_both_shims,
};

with_both_shims!(
    a_container_runs_to_its_end_and_leaves_nothing,
    exit_codes_are_those_of_the_process,
    many_can_wait_for_one_process_before_and_after_its_end,
    a_running_task_cannot_be_deleted_and_stays,
    output_goes_to_the_fifos,
    a_paused_container_is_paused_until_it_is_resumed,
    pids_and_metrics_are_those_of_the_container,
    limits_can_be_changed,
    a_waiter_that_goes_away_takes_nobody_with_it,
    a_creation_whose_caller_goes_away_is_finished,
    the_bundle_is_as_documented,
);

async fn a_container_runs_to_its_end_and_leaves_nothing(shim: Shim) {
    let daemon = Daemon::start(shim.clone()).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let pid = daemon.create("first", &["/bin/true"]).await;
    let created = tasks.get(namespace, "first", "").await.unwrap();
    assert_eq!((created.id.as_str(), created.pid, created.status), ("first", pid, Status::Created));
    assert_eq!(created.exited_at, None, "a task that has not ended has no time of its end");
    let exe = fs::read_link(format!("/proc/{}/exe", daemon.shim_pid("first"))).unwrap();
    assert_eq!(exe, fs::canonicalize(&shim.0).unwrap());

    let before = SystemTime::now();
    assert_eq!(tasks.start(namespace, "first", "").await.unwrap(), pid);
    let exit = tasks.wait(namespace, "first", "").await.unwrap();
    assert_eq!(exit.status, 0);
    assert!(exit.at.unwrap() >= before);
    let stopped = tasks.get(namespace, "first", "").await.unwrap();
    assert_eq!((stopped.status, stopped.exit_status), (Status::Stopped, 0));
    assert!(stopped.exited_at.unwrap() >= before);
    assert_eq!(tasks.list(namespace).await, [stopped]);

    let deleted = tasks.delete(namespace, "first").await.unwrap();
    assert_eq!((deleted.pid, deleted.status), (pid, 0));
    assert_eq!(tasks.get(namespace, "first", "").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tasks.delete(namespace, "first").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(tasks.list(namespace).await.is_empty());
    daemon.deletion_of("first").await;
    let topics = daemon.topics();
    assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);

    // The name can be used again at once.
    daemon.run("first", &["/bin/true"]).await;
    tasks.wait(namespace, "first", "").await.unwrap();
    tasks.delete(namespace, "first").await.unwrap();
    daemon.finish().await;
}

async fn exit_codes_are_those_of_the_process(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    for (id, script, expected) in [
        ("zero", "exit 0", 0),
        ("one", "exit 1", 1),
        ("most", "exit 255", 255),
        ("killed", "kill -9 $$; sleep 1", 137),
    ] {
        // The first process of a pid namespace cannot kill itself: it must be killed from outside.
        let script = if id == "killed" { "sleep 1000" } else { script };
        daemon.run(id, &["/bin/sh", "-c", script]).await;
        if id == "killed" {
            tasks.kill(namespace, id, "", 9, false).await.unwrap();
        }
        assert_eq!(tasks.wait(namespace, id, "").await.unwrap().status, expected, "{id}");
        assert_eq!(daemon.exit_of(id).await.exit_status, expected, "{id}");
        let again = tasks.kill(namespace, id, "", 9, false).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::NotFound, "{again:?}");
        assert_eq!(tasks.delete(namespace, id).await.unwrap().status, expected, "{id}");
    }
    daemon.finish().await;
}

async fn many_can_wait_for_one_process_before_and_after_its_end(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.create("awaited", &["/bin/sleep", "1000"]).await;
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let (tasks, namespace) = (Arc::clone(tasks), namespace.clone());
            tokio::spawn(async move { tasks.wait(&namespace, "awaited", "").await.unwrap().status })
        })
        .collect();
    tasks.start(namespace, "awaited", "").await.unwrap();
    tasks.kill(namespace, "awaited", "", 15, true).await.unwrap();
    // The first process of a pid namespace ignores what it does not handle.
    tasks.kill(namespace, "awaited", "", 9, true).await.unwrap();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), 137);
    }
    assert_eq!(tasks.wait(namespace, "awaited", "").await.unwrap().status, 137);
    tasks.delete(namespace, "awaited").await.unwrap();
    let gone = tasks.wait(namespace, "awaited", "").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    daemon.finish().await;
}

async fn a_running_task_cannot_be_deleted_and_stays(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let pid = daemon.run("busy", &["/bin/sleep", "1000"]).await;
    let refused = tasks.delete(namespace, "busy").await.unwrap_err();
    assert!(refused.chain().contains("running"), "{refused:?}");
    let again = tasks.create(daemon.options("busy", &["/bin/true"])).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let running = tasks.get(namespace, "busy", "").await.unwrap();
    assert_eq!((running.status, running.pid, running.exited_at), (Status::Running, pid, None));
    tasks.kill(namespace, "busy", "", 9, true).await.unwrap();
    tasks.wait(namespace, "busy", "").await.unwrap();
    tasks.delete(namespace, "busy").await.unwrap();
    daemon.finish().await;
}

async fn output_goes_to_the_fifos(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let mut stdout = Fifo::make(&daemon.path().join("stdout"));
    let mut stderr = Fifo::make(&daemon.path().join("stderr"));
    let mut options = daemon.options("loud", &["/bin/sh", "-c", "echo to stdout; echo to stderr >&2"]);
    options.stdout.clone_from(&stdout.path);
    options.stderr.clone_from(&stderr.path);
    daemon.create_with(options).await;
    let state = tasks.get(namespace, "loud", "").await.unwrap();
    assert_eq!((&state.stdout, &state.stderr, state.terminal), (&stdout.path, &stderr.path, false));
    tasks.start(namespace, "loud", "").await.unwrap();
    assert_eq!(stdout.read_to("\n").await, "to stdout\n");
    assert_eq!(stderr.read_to("\n").await, "to stderr\n");
    tasks.wait(namespace, "loud", "").await.unwrap();
    tasks.close_io(namespace, "loud", "", false).await.unwrap();
    tasks.delete(namespace, "loud").await.unwrap();
    daemon.finish().await;
}

async fn a_paused_container_is_paused_until_it_is_resumed(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("frozen", &["/bin/sleep", "1000"]).await;
    tasks.pause(namespace, "frozen").await.unwrap();
    assert_eq!(tasks.get(namespace, "frozen", "").await.unwrap().status, Status::Paused);
    assert!(tasks.pause(namespace, "frozen").await.is_err());
    tasks.resume(namespace, "frozen").await.unwrap();
    assert_eq!(tasks.get(namespace, "frozen", "").await.unwrap().status, Status::Running);
    tasks.kill(namespace, "frozen", "", 9, true).await.unwrap();
    tasks.wait(namespace, "frozen", "").await.unwrap();
    tasks.delete(namespace, "frozen").await.unwrap();
    daemon.finish().await;
}

async fn pids_and_metrics_are_those_of_the_container(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let pid = daemon.run("measured", &["/bin/sleep", "1000"]).await;
    daemon.create("other", &["/bin/true"]).await;
    let pids = tasks.pids(namespace, "measured").await.unwrap();
    assert_eq!(pids.iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
    let metrics = tasks.metrics(namespace, |id| id == "measured").await;
    assert_eq!(metrics.iter().map(|metric| metric.id.as_str()).collect::<Vec<_>>(), ["measured"]);
    let data = metrics[0].data.as_ref().unwrap();
    assert!(data.type_url.starts_with("io.containerd.cgroups.v"), "{}", data.type_url);
    assert!(!data.value.is_empty());
    assert_eq!(tasks.metrics(namespace, |_| true).await.len(), 2);
    tasks.kill(namespace, "measured", "", 9, true).await.unwrap();
    tasks.wait(namespace, "measured", "").await.unwrap();
    tasks.delete(namespace, "measured").await.unwrap();
    tasks.delete(namespace, "other").await.unwrap();
    daemon.finish().await;
}

async fn limits_can_be_changed(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("limited", &["/bin/sleep", "1000"]).await;
    let resources = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: r#"{"pids":{"limit":77}}"#.into(),
    };
    tasks.update(namespace, "limited", Some(resources), Default::default()).await.unwrap();
    let metrics = tasks.metrics(namespace, |_| true).await;
    assert_eq!(metrics.len(), 1);
    tasks.kill(namespace, "limited", "", 9, true).await.unwrap();
    tasks.wait(namespace, "limited", "").await.unwrap();
    tasks.delete(namespace, "limited").await.unwrap();
    daemon.finish().await;
}

async fn a_waiter_that_goes_away_takes_nobody_with_it(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("shared", &["/bin/sleep", "1000"]).await;
    for _ in 0..20 {
        let polled = futures::FutureExt::now_or_never(tasks.wait(namespace, "shared", ""));
        assert!(polled.is_none());
        let polled = futures::FutureExt::now_or_never(tasks.get(namespace, "shared", ""));
        assert!(polled.is_none());
    }
    assert_eq!(tasks.get(namespace, "shared", "").await.unwrap().status, Status::Running);
    tasks.kill(namespace, "shared", "", 9, true).await.unwrap();
    assert_eq!(tasks.wait(namespace, "shared", "").await.unwrap().status, 137);
    tasks.delete(namespace, "shared").await.unwrap();
    daemon.finish().await;
}

async fn a_creation_whose_caller_goes_away_is_finished(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let polled = futures::FutureExt::now_or_never(tasks.create(daemon.options("orphan", &["/bin/true"])));
    assert!(polled.is_none());
    daemon
        .published("the creation", |all| all.iter().find(|e| e.topic.as_str() == "/tasks/create").map(|_| ()))
        .await;
    crate::daemon::eventually("the task is listed", || {
        let listed = futures::executor::block_on(tasks.list(namespace));
        listed.iter().any(|process| process.status == Status::Created)
    })
    .await;
    tasks.delete(namespace, "orphan").await.unwrap();
    daemon.finish().await;
}

async fn the_bundle_is_as_documented(shim: Shim) {
    let daemon = Daemon::start(shim.clone()).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    // Unknown fields, odd spacing and numbers beyond 2^53 must arrive as they are (H71).
    let mut spec = spec_json(namespace.as_str(), "exact", &["/bin/true"]);
    spec["linux"]["gidMappings"] = serde_json::json!([]);
    let text = spec.to_string().replacen('{', "{ \"unknown\" :  9223372036854775807 ,", 1);
    let options = CreateOptions { spec: spec_any(&spec), ..daemon.options("exact", &[]) };
    let options = CreateOptions {
        spec: Any { value: text.clone().into_bytes().into(), ..options.spec.clone() },
        ..options
    };
    daemon.create_with(options).await;
    let bundle = daemon.bundle("exact");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&bundle), 0o700);
    assert_eq!(mode(&daemon.state()), 0o711);
    assert_eq!(fs::read_to_string(bundle.join("config.json")).unwrap(), text);
    assert_eq!(fs::read_link(bundle.join("work")).unwrap(), daemon.work().join("exact"));
    assert_eq!(fs::read_to_string(bundle.join("shim-binary-path")).unwrap(), shim.0.display().to_string());
    assert_eq!(mode(&bundle.join("shim-binary-path")), 0o600);
    assert_eq!(mode(&bundle.join("bootstrap.json")), 0o644);
    assert!(bundle.join("rootfs/bin/busybox").exists());
    tasks.delete(namespace, "exact").await.unwrap();
    daemon.finish().await;
}
