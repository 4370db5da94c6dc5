//! Create to delete, with what lies between.

use std::io::Read;

use corten_runtime_runc::{CreateOptions, ExecOptions, ProcessIo, RuntimeError, read_pid_file};
use serde_json::{Value, json};

use crate::{bundle::Bundle, root_or_skip};

fn pipe() -> (std::io::PipeReader, std::os::fd::OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, writer.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_created_started_signalled_and_deleted() {
    root_or_skip!();
    let bundle = Bundle::new(&["sleep", "1000"], false);
    let options = CreateOptions { pid_file: Some(bundle.pid_file()), ..CreateOptions::default() };
    let (runtime, id) = (&bundle.runtime, bundle.id.as_str());
    runtime.create(id, bundle.path(), &options, ProcessIo::default()).await.unwrap();
    let created = runtime.state(id).await.unwrap();
    assert_eq!(created.status, "created");
    assert_eq!(created.pid, read_pid_file(&bundle.pid_file()).unwrap());
    assert_eq!(created.bundle.as_path(), bundle.path());

    runtime.start(id).await.unwrap();
    assert_eq!(runtime.state(id).await.unwrap().status, "running");
    assert_eq!(runtime.ps(id).await.unwrap(), [created.pid]);
    runtime.pause(id).await.unwrap();
    assert_eq!(runtime.state(id).await.unwrap().status, "paused");
    runtime.resume(id).await.unwrap();
    runtime.update(id, br#"{"pids":{"limit":77}}"#).await.unwrap();
    let limit = std::fs::read_to_string(format!("/sys/fs/cgroup/pids/{id}/pids.max"))
        .or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/{id}/pids.max")))
        .unwrap();
    assert_eq!(limit.trim(), "77");

    assert!(matches!(runtime.delete(id, false).await, Err(RuntimeError::Refused { .. })));
    runtime.kill(id, 9, false).await.unwrap();
    bundle.until("stopped").await;
    assert!(matches!(runtime.kill(id, 9, false).await, Err(RuntimeError::ProcessFinished)));
    runtime.delete(id, false).await.unwrap();
    assert!(matches!(runtime.kill(id, 9, false).await, Err(RuntimeError::NoSuchContainer)));
    assert!(runtime.delete(id, false).await.unwrap_err().is_unknown_container());
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup/pids/{id}")).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_a_container_reach_their_pipes() {
    root_or_skip!();
    let bundle = Bundle::new(&["sh", "-c", "cat; echo problem >&2"], false);
    let (mut stdout, stdout_end) = pipe();
    let (mut stderr, stderr_end) = pipe();
    let (stdin_end, stdin) = std::io::pipe().unwrap();
    let io = ProcessIo { stdin: Some(stdin_end.into()), stdout: Some(stdout_end), stderr: Some(stderr_end) };
    bundle.runtime.create(&bundle.id, bundle.path(), &CreateOptions::default(), io).await.unwrap();
    bundle.runtime.start(&bundle.id).await.unwrap();
    std::io::Write::write_all(&mut &stdin, b"hello\n").unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).unwrap();
    stderr.read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("hello\n", "problem\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_runs_in_the_container_with_its_own_streams() {
    root_or_skip!();
    let bundle = Bundle::new(&["sleep", "1000"], false);
    let (runtime, id) = (&bundle.runtime, bundle.id.as_str());
    let nobody = ProcessIo::default();
    runtime.create(id, bundle.path(), &CreateOptions::default(), nobody).await.unwrap();
    runtime.start(id).await.unwrap();
    let process = json!({
        "args": ["sh", "-c", "echo $WORD $$"], "env": ["PATH=/bin", "WORD=from-exec"], "cwd": "/",
        "user": {"uid": 0, "gid": 0}, "terminal": false
    });
    let (mut stdout, stdout_end) = pipe();
    let options = ExecOptions {
        pid_file: Some(bundle.path().join("exec.pid")),
        detach: true,
        ..ExecOptions::default()
    };
    let io = ProcessIo { stdout: Some(stdout_end), ..ProcessIo::default() };
    runtime.exec(id, process.to_string().as_bytes(), &options, io).await.unwrap();
    let mut out = String::new();
    stdout.read_to_string(&mut out).unwrap();
    assert!(out.starts_with("from-exec "), "{out}");
    assert!(read_pid_file(&bundle.path().join("exec.pid")).unwrap() > 1);
    runtime.delete(id, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_and_features_are_those_of_the_binary() {
    root_or_skip!();
    let bundle = Bundle::new(&["true"], false);
    let version = bundle.runtime.version().await.unwrap();
    assert_eq!(version.name, "runc");
    assert!(!version.version.is_empty() && !version.specification.is_empty());
    let features: Value = serde_json::from_slice(&bundle.runtime.features().await.unwrap()).unwrap();
    assert!(features["ociVersionMax"].is_string());
}
