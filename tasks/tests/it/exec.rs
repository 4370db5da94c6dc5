//! Further processes in a container.

use corten_tasks::{ExecOptions, Status};
use corten_types::ErrorKind;

use crate::{
    Shim,
    container::process_any,
    daemon::{Daemon, Fifo},
    with_both_shims,
};

with_both_shims!(
    an_exec_runs_beside_the_first_process,
    an_exec_reads_its_stdin_until_it_is_closed,
    exec_ids_are_checked_and_unique,
    an_exec_cannot_start_after_the_container_has_ended,
    hundred_execs_each_tell_their_exit_code,
);

fn exec_options(arguments: &[&str]) -> ExecOptions {
    ExecOptions { spec: Some(process_any(arguments)), ..ExecOptions::default() }
}

async fn end(daemon: Daemon, id: &str) {
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    tasks.kill(namespace, id, "", 9, true).await.unwrap();
    tasks.wait(namespace, id, "").await.unwrap();
    tasks.delete(namespace, id).await.unwrap();
    daemon.finish().await;
}

async fn an_exec_runs_beside_the_first_process(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let init = daemon.run("host", &["/bin/sleep", "1000"]).await;
    tasks.exec(namespace, "host", "guest", exec_options(&["/bin/sleep", "1000"])).await.unwrap();
    let created = tasks.get(namespace, "host", "guest").await.unwrap();
    assert_eq!((created.id.as_str(), created.status), ("guest", Status::Created));
    let pid = tasks.start(namespace, "host", "guest").await.unwrap();
    let mut pids = tasks.pids(namespace, "host").await.unwrap();
    pids.sort_by_key(|process| process.pid != init);
    assert_eq!(pids.iter().map(|process| process.pid).collect::<Vec<_>>(), [init, pid]);
    let details = pids[1].info.as_ref().expect("an exec has details");
    assert_eq!(details.type_url, "containerd.runc.v1.ProcessDetails");
    tasks.kill(namespace, "host", "guest", 9, true).await.unwrap();
    assert_eq!(tasks.wait(namespace, "host", "guest").await.unwrap().status, 137);
    let exit = daemon.exit_of("guest").await;
    assert_eq!((exit.container_id.as_str(), exit.pid, exit.exit_status), ("host", pid, 137));
    assert_eq!(tasks.get(namespace, "host", "").await.unwrap().status, Status::Running);
    let deleted = tasks.delete_process(namespace, "host", "guest").await.unwrap();
    assert_eq!((deleted.pid, deleted.status), (pid, 137));
    let gone = tasks.delete_process(namespace, "host", "guest").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone:?}");
    let gone = tasks.wait(namespace, "host", "guest").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone:?}");
    end(daemon, "host").await;
}

async fn an_exec_reads_its_stdin_until_it_is_closed(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("host", &["/bin/sleep", "1000"]).await;
    let stdin = Fifo::make(&daemon.path().join("stdin"));
    let stderr = Fifo::make(&daemon.path().join("stderr"));
    let mut stdout = Fifo::make(&daemon.path().join("stdout"));
    let options = ExecOptions {
        stdin: stdin.path.clone(),
        stdout: stdout.path.clone(),
        stderr: stderr.path.clone(),
        ..exec_options(&["/bin/cat"])
    };
    tasks.exec(namespace, "host", "reader", options).await.unwrap();
    tasks.start(namespace, "host", "reader").await.unwrap();
    let path = stdin.path.clone();
    // Only the shim reads it from here on.
    drop(stdin);
    tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(b"through the fifo\n").unwrap();
    })
    .await
    .unwrap();
    assert_eq!(stdout.read_to("\n").await, "through the fifo\n");
    tasks.close_io(namespace, "host", "reader", true).await.unwrap();
    assert_eq!(tasks.wait(namespace, "host", "reader").await.unwrap().status, 0);
    tasks.delete_process(namespace, "host", "reader").await.unwrap();
    end(daemon, "host").await;
}

async fn exec_ids_are_checked_and_unique(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("host", &["/bin/sleep", "1000"]).await;
    for bad in ["", "a..b", "-a", "a/b", &"a".repeat(77)] {
        let refused = tasks.exec(namespace, "host", bad, exec_options(&["/bin/true"])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{bad}: {refused:?}");
    }
    tasks.exec(namespace, "host", "once", exec_options(&["/bin/true"])).await.unwrap();
    let twice = tasks.exec(namespace, "host", "once", exec_options(&["/bin/true"])).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists, "{twice:?}");
    for unknown in [
        tasks.start(namespace, "host", "never").await.map(|_| ()),
        tasks.kill(namespace, "host", "never", 9, false).await,
    ] {
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let nowhere = tasks.exec(namespace, "nowhere", "once", exec_options(&["/bin/true"])).await.unwrap_err();
    assert_eq!((nowhere.kind(), nowhere.message()), (ErrorKind::NotFound, "task nowhere not found"));
    tasks.start(namespace, "host", "once").await.unwrap();
    assert_eq!(tasks.wait(namespace, "host", "once").await.unwrap().status, 0);
    tasks.delete_process(namespace, "host", "once").await.unwrap();
    end(daemon, "host").await;
}

async fn an_exec_cannot_start_after_the_container_has_ended(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("host", &["/bin/sleep", "1000"]).await;
    tasks.exec(namespace, "host", "late", exec_options(&["/bin/true"])).await.unwrap();
    tasks.kill(namespace, "host", "", 9, true).await.unwrap();
    tasks.wait(namespace, "host", "").await.unwrap();
    assert!(tasks.start(namespace, "host", "late").await.is_err());
    tasks.delete(namespace, "host").await.unwrap();
    daemon.finish().await;
}

async fn hundred_execs_each_tell_their_exit_code(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("host", &["/bin/sleep", "1000"]).await;
    let run_one = |number: u32| async move {
        let (exec_id, script) = (format!("exec-{number}"), format!("exit {number}"));
        tasks.exec(namespace, "host", &exec_id, exec_options(&["/bin/sh", "-c", &script])).await.unwrap();
        tasks.start(namespace, "host", &exec_id).await.unwrap();
        assert_eq!(tasks.wait(namespace, "host", &exec_id).await.unwrap().status, number);
        tasks.delete_process(namespace, "host", &exec_id).await.unwrap();
    };
    for first in (0..100).step_by(10) {
        futures::future::join_all((first..first + 10).map(run_one)).await;
    }
    for number in 0..100 {
        assert_eq!(daemon.exit_of(&format!("exec-{number}")).await.exit_status, number);
    }
    end(daemon, "host").await;
}
