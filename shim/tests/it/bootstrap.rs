//! How a shim is started, asked about itself and cleaned up after.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use corten_api::containerd::{
    runc::v1::Options,
    runtime::bootstrap::v1::{BootstrapResult, Extension},
    task::v3,
    types::RuntimeInfo,
};
use prost::Message;

use crate::{
    SHIM,
    alone::{Scratch, options_any, run, unique},
    leaks, root_or_skip, until_async,
};

#[tokio::test]
async fn parameters_are_answered_with_protobuf_and_version_3() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("boot");
    scratch.write_bundle(&id, &["true"], false, |_| {});
    let result = scratch.start(&id);
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    let socket = Path::new(result.address.strip_prefix("unix://").unwrap());
    assert!(socket.starts_with(scratch.socket_folder()));
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let shim = scratch.connect(&result.address, "containerd.task.v3.Task").await;
    assert_eq!(std::fs::read_link(format!("/proc/{}/exe", shim.pid)).unwrap(), Path::new(SHIM));
    // Its score is one worse than its parent's: that of this test.
    let score = |pid: &str| -> i32 {
        std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    assert_eq!(score(&shim.pid.to_string()), score("self") + 1);
    assert_eq!(std::fs::read_to_string(scratch.bundle(&id).join("address")).unwrap(), result.address);
    scratch.finish(shim).await;
}

#[tokio::test]
async fn a_shim_is_put_into_its_cgroup_and_keeps_no_foreign_descriptors() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("cgroup");
    scratch.write_bundle(&id, &["true"], false, |_| {});
    let hierarchy = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .map(Path::new)
        .into_iter()
        .find(|folder| folder.join("cgroup.procs").exists())
        .unwrap();
    let group = hierarchy.join(&id);
    std::fs::create_dir(&group).unwrap();
    let mut parameters = scratch.parameters(&id);
    let options = Options { shim_cgroup: format!("/{id}"), ..Options::default() };
    parameters.extensions = vec![Extension { value: Some(options_any(&options)) }];
    // A pipe whose end the daemon let its children have.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = scratch.command(&id, "start");
    // SAFETY: the closure makes one system call.
    unsafe {
        command.pre_exec(move || Ok(rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty())?));
    }
    let output = run(command, &parameters.encode_to_vec());
    let address = BootstrapResult::decode(output.stdout.as_slice()).unwrap().address;
    let shim = scratch.connect(&address, "containerd.task.v3.Task").await;
    std::io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
    let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert_eq!(members.trim(), shim.pid.to_string());
    scratch.finish(shim).await;
    std::fs::remove_dir(&group).unwrap();
}

#[tokio::test]
async fn an_older_daemon_gets_the_plain_address_and_version_2_of_the_service() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    for stdin in [
        Vec::new(),
        options_any(&Default::default()).encode_to_vec(),
        // Parameters for somebody else.
        scratch.parameters("another").encode_to_vec(),
    ] {
        let id = unique("old");
        scratch.write_bundle(&id, &["true"], false, |_| {});
        let output = run(scratch.command(&id, "start"), &stdin);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "it would be taken for a part of the answer");
        let address = String::from_utf8(output.stdout).unwrap();
        assert!(address.starts_with("unix:///run/containerd/s/"), "{address}");
        let shim = scratch.connect(&address, "containerd.task.v2.Task").await;
        let pid = shim.pid;
        let _: () = shim.call("Shutdown", &v3::ShutdownRequest::default()).await.unwrap();
        scratch.assert_nothing_left(pid, &address).await;
    }
}

#[tokio::test]
async fn a_bundle_without_a_specification_starts_nothing() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("bare");
    let output = run(scratch.command(&id, "start"), &scratch.parameters(&id).encode_to_vec());
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("config.json"), "{output:?}");
    assert!(leaks::processes_with(&scratch.path().display().to_string()).is_empty());
}

#[tokio::test]
async fn version_and_info_are_printed() {
    root_or_skip!();
    let mut command = Command::new(SHIM);
    command.arg("-v");
    let text = String::from_utf8(run(command, b"").stdout).unwrap();
    assert!(text.contains("containerd-shim-runc-v2") && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let mut command = Command::new(SHIM);
    command.arg("-info");
    let output = run(command, &options_any(&Default::default()).encode_to_vec());
    let info = RuntimeInfo::decode(output.stdout.as_slice()).unwrap();
    assert_eq!(info.name, "io.containerd.runc.v2", "the runtime, not the program");
    let features = info.features.unwrap();
    assert!(features.type_url.ends_with("features/Features"));
    assert!(
        serde_json::from_slice::<serde_json::Value>(&features.value).unwrap()["ociVersionMax"].is_string()
    );
}

#[tokio::test]
async fn delete_cleans_up_after_a_shim_that_was_killed() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("dead");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let init = shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(shim.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until_async("the end of the shim", || leaks::ended(shim.pid)).await;
    assert!(Path::new(&format!("/proc/{init}")).exists(), "the container survives its shim");
    let output = run(scratch.command(&id, "delete"), b"");
    assert!(output.status.success(), "{output:?}");
    let answer = v3::DeleteResponse::decode(output.stdout.as_slice()).unwrap();
    assert_eq!((answer.pid, answer.exit_status), (init, 137));
    scratch.assert_nothing_left(init, &shim.address).await;
}
