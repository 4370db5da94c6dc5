//! Create, start, exec, kill and delete, and the events of it.

use std::path::Path;

use corten_api::containerd::{events::TaskDelete, runc::v1::ProcessDetails, task::v3, v1::types::Status};
use corten_types::ErrorKind;
use prost::Message;

use crate::{
    alone::{Scratch, unique},
    bundle::process,
    leaks, root_or_skip, until_async,
};

#[tokio::test]
async fn a_container_lives_through_every_state() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("life");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let pid = shim.create(&scratch.create_request(&id)).await.unwrap();
    let bundle = scratch.bundle(&id);
    assert_eq!(std::fs::read_to_string(bundle.join("init.pid")).unwrap(), pid.to_string());
    assert!(bundle.join("rootfs/bin/busybox").exists(), "the root filesystem is mounted");
    let state = shim.state(&id, "").await.unwrap();
    assert_eq!((state.pid, state.status()), (pid, Status::Created));
    assert_eq!(state.bundle, bundle.display().to_string());
    assert_eq!(shim.start(&id, "").await.unwrap(), pid);
    assert_eq!(shim.state(&id, "").await.unwrap().status(), Status::Running);
    let _: () = shim.call("Pause", &v3::PauseRequest { id: id.clone() }).await.unwrap();
    assert_eq!(shim.state(&id, "").await.unwrap().status(), Status::Paused);
    let _: () = shim.call("Resume", &v3::ResumeRequest { id: id.clone() }).await.unwrap();
    // A shutdown with a container changes nothing.
    let _: () = shim.call("Shutdown", &v3::ShutdownRequest::default()).await.unwrap();
    shim.kill(&id, "", 9, false).await.unwrap();
    assert_eq!(shim.wait(&id, "").await, 137);
    let stopped = shim.state(&id, "").await.unwrap();
    assert_eq!((stopped.status(), stopped.exit_status), (Status::Stopped, 137));
    assert!(stopped.exited_at.is_some());
    let deleted = shim.delete(&id, "").await.unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    assert_eq!(shim.state(&id, "").await.unwrap_err().kind(), ErrorKind::NotFound);
    until_async("the last event", || scratch.topics().iter().any(|topic| topic == "/tasks/delete")).await;
    let expected =
        ["create", "start", "paused", "resumed", "exit", "delete"].map(|name| format!("/tasks/{name}"));
    assert_eq!(scratch.topics(), expected);
    let delete = &scratch.decoded("/tasks/delete", |bytes| TaskDelete::decode(bytes).unwrap())[0];
    assert_eq!((delete.pid, delete.exit_status, delete.container_id.as_str()), (pid, 137, id.as_str()));
    scratch.finish(shim).await;
}

#[tokio::test]
async fn a_container_that_never_started_is_deleted_with_its_init() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("unstarted");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let pid = shim.create(&scratch.create_request(&id)).await.unwrap();
    let deleted = shim.delete(&id, "").await.unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    until_async("the events", || scratch.topics().len() == 3).await;
    assert_eq!(scratch.topics(), ["/tasks/create", "/tasks/exit", "/tasks/delete"]);
    scratch.finish(shim).await;
}

#[tokio::test]
async fn an_exec_has_its_own_state_exit_and_deletion() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("exec");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    let output = scratch.path().join("out");
    let uri = format!("file://{}", output.display());
    shim.exec(&id, "one", &process(&["sh", "-c", "id -u; sleep 1000"], false), &uri).await.unwrap();
    let again = shim.exec(&id, "one", &process(&["true"], false), "").await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert_eq!(shim.state(&id, "one").await.unwrap().status(), Status::Created);
    assert_eq!(shim.kill(&id, "one", 9, false).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let pid = shim.start(&id, "one").await.unwrap();
    until_async("the output", || std::fs::read_to_string(&output).is_ok_and(|text| text == "0\n")).await;
    let pids: v3::PidsResponse = shim.call("Pids", &v3::PidsRequest { id: id.clone() }).await.unwrap();
    let info = pids.processes.iter().find(|process| process.pid == pid).unwrap().info.clone().unwrap();
    assert_eq!(info.type_url, "containerd.runc.v1.ProcessDetails");
    assert_eq!(ProcessDetails::decode(info.value.as_slice()).unwrap().exec_id, "one");
    shim.kill(&id, "one", 15, false).await.unwrap();
    assert_eq!(shim.wait(&id, "one").await, 143);
    assert_eq!(shim.kill(&id, "one", 15, false).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(shim.delete(&id, "one").await.unwrap().exit_status, 143);
    assert!(!scratch.bundle(&id).join("one.pid").exists());
    assert_eq!(shim.state(&id, "one").await.unwrap_err().kind(), ErrorKind::NotFound);
    shim.exec(&id, "one", &process(&["false"], false), "").await.unwrap();
    shim.start(&id, "one").await.unwrap();
    assert_eq!(shim.wait(&id, "one").await, 1);
    shim.kill(&id, "", 9, true).await.unwrap();
    shim.wait(&id, "").await;
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

#[tokio::test]
async fn an_early_end_is_told_after_its_start() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let group = unique("early");
    let first = format!("{group}-0");
    scratch.write_bundle(&first, &["false"], false, |_| {});
    let shim = scratch.shim(&first).await;
    for number in 0..10 {
        let id = format!("{group}-{number}");
        scratch.write_bundle(&id, &["false"], false, |_| {});
        shim.create(&scratch.create_request(&id)).await.unwrap();
        shim.start(&id, "").await.unwrap();
        assert_eq!(shim.wait(&id, "").await, 1);
        shim.delete(&id, "").await.unwrap();
    }
    until_async("the events", || scratch.topics().len() == 40).await;
    let once = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
    for seen in scratch.topics().chunks(4) {
        assert_eq!(seen, once);
    }
    scratch.finish(shim).await;
}

#[tokio::test]
async fn ends_of_execs_are_told_before_the_end_of_init() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("order");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    let execs: Vec<String> = (0..8).map(|number| format!("exec-{number}")).collect();
    for exec in &execs {
        shim.exec(&id, exec, &process(&["sleep", "1000"], false), "").await.unwrap();
        shim.start(&id, exec).await.unwrap();
    }
    shim.kill(&id, "", 9, false).await.unwrap();
    assert_eq!(shim.wait(&id, "").await, 137);
    until_async("the ends", || scratch.exits().len() == 9).await;
    let ended: Vec<String> = scratch.exits().into_iter().map(|exit| exit.id).collect();
    assert_eq!(ended.last(), Some(&id));
    shim.exec(&id, "late", &process(&["true"], false), "").await.unwrap_err();
    for exec in &execs {
        assert_eq!(shim.delete(&id, exec).await.unwrap().exit_status, 137);
    }
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

#[tokio::test]
async fn without_a_process_namespace_init_takes_all_others_along() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("hostpid");
    scratch.write_bundle(&id, &["sh", "-c", "sleep 1234 & exec sleep 1000"], false, |config| {
        config["linux"]["namespaces"] =
            serde_json::json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]);
    });
    let shim = scratch.shim(&id).await;
    let init = shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    let mut others = Vec::new();
    for _ in 0..1000 {
        let pids: v3::PidsResponse = shim.call("Pids", &v3::PidsRequest { id: id.clone() }).await.unwrap();
        others = pids.processes.iter().map(|process| process.pid).filter(|pid| *pid != init).collect();
        if !others.is_empty() {
            break;
        }
    }
    assert_eq!(others.len(), 1, "the background process runs");
    shim.kill(&id, "", 9, false).await.unwrap();
    assert_eq!(shim.wait(&id, "").await, 137);
    until_async("the end of the background process", || leaks::ended(others[0])).await;
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

#[tokio::test]
async fn a_runtime_that_hangs_blocks_only_its_own_call() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("hang");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    // A runtime that hangs in `start` until it is killed.
    let script = scratch.path().join("slow-runc");
    let text = "#!/bin/sh\ncase \" $* \" in *' start '*) exec sleep 987;; esac\nexec runc \"$@\"\n";
    write_script(&script, text);
    let shim = scratch.shim(&id).await;
    let mut request = scratch.create_request(&id);
    request.options = Some(crate::alone::options_any(&corten_api::containerd::runc::v1::Options {
        binary_name: script.display().to_string(),
        root: scratch.path().join("runc").display().to_string(),
        ..Default::default()
    }));
    shim.create(&request).await.unwrap();
    let starting = tokio::spawn({
        let (shim, id) = (shim.clone(), id.clone());
        async move { shim.start(&id, "").await }
    });
    until_async("the runtime hangs", || leaks::processes_with("sleep 987").len() == 1).await;
    assert_eq!(shim.state(&id, "").await.unwrap().status(), Status::Created);
    assert_eq!(shim.start(&id, "").await.unwrap_err().message(), "cannot start a created process");
    shim.kill(&id, "", 9, false).await.unwrap();
    for (pid, _) in leaks::processes_with("sleep 987") {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let error = starting.await.unwrap().unwrap_err();
    assert!(error.message().contains("OCI runtime start failed"), "{error:?}");
    assert_eq!(shim.wait(&id, "").await, 137);
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

#[expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]
fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
