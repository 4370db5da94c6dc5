//! Shims of every age: what they are given, and how they answer. Scripts stand before the real shim, or for it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use corten_api::containerd::{runc::v1::Options as RuncOptions, runtime::bootstrap::v1::BootstrapParams};
use corten_types::{Any, ErrorKind};
use prost::Message;

use crate::{
    Shim,
    daemon::{Daemon, script},
    with_both_shims,
};

with_both_shims!(
    a_shim_gets_its_parameters_on_stdin_and_in_its_environment,
    all_three_forms_of_the_answer_are_understood,
    answers_that_make_no_sense_leave_nothing,
    a_shim_that_hangs_is_killed,
    a_shim_says_what_it_is_or_that_it_cannot,
    a_shim_in_a_sandbox_is_joined_if_it_can_be,
    a_shim_that_goes_away_while_it_is_joined_is_started_again,
);

async fn a_shim_gets_its_parameters_on_stdin_and_in_its_environment(shim: Shim) {
    let daemon = Daemon::start(shim.clone()).await;
    let (dump, real) = (daemon.path().join("dump"), shim.0.display().to_string());
    fs::create_dir(&dump).unwrap();
    let into = dump.display();
    let path = script(
        &daemon,
        "dumping-shim",
        &format!(
            "for last; do :; done; n=$(ls {into} | grep -c stdin); cat > {into}/$last.stdin.$n; env > {into}/$last.env
            printf '%s\\n' \"$@\" > {into}/$last.arguments; pwd > {into}/$last.folder; exec {real} \"$@\" < {into}/$last.stdin.$n"
        ),
    );
    let mut options = daemon.options("dumped", &["/bin/true"]);
    options.runtime_path = path.display().to_string();
    let runc = RuncOptions { no_new_keyring: true, ..RuncOptions::default() };
    let any = Any { type_url: "containerd.runc.v1.Options".into(), value: runc.encode_to_vec().into() };
    options.task_options = Some(any.clone());
    daemon.create_with(options).await;

    let socket = daemon.path().join("d.sock").display().to_string();
    let params = BootstrapParams::decode(fs::read(dump.join("start.stdin.0")).unwrap().as_slice()).unwrap();
    assert_eq!(
        (params.instance_id.as_str(), params.namespace.as_str()),
        ("dumped", daemon.namespace.as_str())
    );
    assert_eq!(params.containerd_grpc_address, socket);
    assert_eq!(params.containerd_ttrpc_address, format!("{socket}.ttrpc"));
    assert_eq!(params.containerd_binary, "/bin/true");
    assert_eq!(params.log_level, 0);
    let extension = params.extensions[0].value.clone().unwrap();
    assert_eq!((extension.type_url.as_str(), extension.value), (any.type_url.as_str(), any.value.to_vec()));
    if dump.join("start.stdin.1").exists() {
        // A shim of 1.6 took them for damaged options, and got the bare options then.
        let options =
            prost_types::Any::decode(fs::read(dump.join("start.stdin.1")).unwrap().as_slice()).unwrap();
        assert_eq!((options.type_url, options.value), (any.type_url.clone(), any.value.to_vec()));
    }
    let arguments = fs::read_to_string(dump.join("start.arguments")).unwrap();
    let expected = format!(
        "-namespace\n{}\n-address\n{socket}\n-publish-binary\n/bin/true\n-id\ndumped\nstart\n",
        daemon.namespace
    );
    assert_eq!(arguments, expected);
    let environment = fs::read_to_string(dump.join("start.env")).unwrap();
    for line in [
        "GOMAXPROCS=2".to_owned(),
        "MAX_SHIM_VERSION=2".to_owned(),
        format!("TTRPC_ADDRESS={socket}.ttrpc"),
        format!("GRPC_ADDRESS={socket}"),
        format!("NAMESPACE={}", daemon.namespace),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} in {environment}");
    }
    let folder = fs::read_to_string(dump.join("start.folder")).unwrap();
    assert_eq!(Path::new(folder.trim()), daemon.bundle("dumped"));

    // What it is given for `delete`, after its death.
    daemon.kill_shim("dumped");
    daemon.deletion_of("dumped").await;
    let arguments = fs::read_to_string(dump.join("delete.arguments")).unwrap();
    let bundle = daemon.bundle("dumped");
    assert!(
        arguments.ends_with(&format!("-id\ndumped\n-bundle\n{}\ndelete\n", bundle.display())),
        "{arguments}"
    );
    daemon.finish().await;
}

async fn all_three_forms_of_the_answer_are_understood(shim: Shim) {
    let daemon = Daemon::start(shim.clone()).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let real = shim.0.display();
    // Without anything on its stdin, any shim answers with a version 2 address.
    let address = format!(
        "address=$({real} \"$@\" < /dev/null); address=${{address##*unix://}}; address=${{address%%\\\"*}}"
    );
    let json = |version: u32| {
        format!(
            "printf '{{\"version\":{version},\"address\":\"unix://%s\",\"protocol\":\"ttrpc\"}}' $address"
        )
    };
    let forms = [
        ("plain", "printf 'unix://%s' $address".to_owned(), 2),
        ("json2", json(2), 2),
        // If it says 3 and speaks only 2, it is asked again with 2 (H15).
        ("json3", json(3), 3),
        ("protobuf", "printf '\\010\\002\\022\\131unix://%s\\032\\005ttrpc' $address".to_owned(), 2),
    ];
    for (id, answer, version) in forms {
        let text =
            format!("for last; do :; done; [ $last = start ] || exec {real} \"$@\"; {address}; {answer}");
        let mut options = daemon.options(id, &["/bin/true"]);
        options.runtime_path = script(&daemon, id, &text).display().to_string();
        daemon.create_with(options).await;
        let stored: serde_json::Value =
            serde_json::from_slice(&fs::read(daemon.bundle(id).join("bootstrap.json")).unwrap()).unwrap();
        assert_eq!(stored["version"], version, "{stored}");
        tasks.start(namespace, id, "").await.unwrap();
        assert_eq!(tasks.wait(namespace, id, "").await.unwrap().status, 0);
        tasks.delete(namespace, id).await.unwrap();
    }
    daemon.finish().await;
}

async fn answers_that_make_no_sense_leave_nothing(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    for (text, kind, words) in [
        ("echo no runc here >&2; exit 1", ErrorKind::Unknown, "no runc here"),
        ("exit 3", ErrorKind::Unknown, "exit status: 3"),
        ("exit 0", ErrorKind::Unknown, "said nothing"),
        ("echo warning: low battery; echo unix:///x", ErrorKind::Unknown, "low battery"),
        (
            "echo '{\"version\":4,\"address\":\"unix:///x\",\"protocol\":\"ttrpc\"}'",
            ErrorKind::Unimplemented,
            "version (4)",
        ),
        (
            "echo '{\"version\":3,\"address\":\"unix:///x\",\"protocol\":\"grpc\"}'",
            ErrorKind::Unimplemented,
            "gRPC",
        ),
        (
            "echo '{\"version\":3,\"address\":\"unix:///x\",\"protocol\":\"smoke\"}'",
            ErrorKind::Unknown,
            "smoke",
        ),
        (
            "echo '{\"version\":3,\"address\":\"vsock://3:1\",\"protocol\":\"ttrpc\"}'",
            ErrorKind::Unimplemented,
            "vsock",
        ),
        ("head -c 3000000 /dev/zero; exit 1", ErrorKind::Unknown, "exit status: 1"),
    ] {
        let mut options = daemon.options("senseless", &["/bin/true"]);
        options.runtime_path = script(&daemon, "senseless", text).display().to_string();
        let refused = daemon.tasks().create(options).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{text}: {refused:?}");
        assert!(refused.chain().contains(words), "{text}: {refused:?}");
        assert!(!daemon.bundle("senseless").exists(), "{text}");
    }
    daemon.finish().await;
}

async fn a_shim_that_hangs_is_killed(shim: Shim) {
    let mut daemon = Daemon::start(shim).await;
    daemon.stop().await;
    daemon.timeouts.start = Duration::from_millis(200);
    daemon.begin().await;
    let marker = daemon.path().join("hanging").display().to_string();
    let path = script(&daemon, "hanging-shim", &format!("echo $$ > {marker}; sleep 1000 & wait"));
    let mut options = daemon.options("hung", &["/bin/true"]);
    options.runtime_path = path.display().to_string();
    let begun = Instant::now();
    let refused = daemon.tasks().create(options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DeadlineExceeded, "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    let group: i32 = fs::read_to_string(marker).unwrap().trim().parse().unwrap();
    let group = rustix::process::Pid::from_raw(group).unwrap();
    crate::daemon::eventually("its whole process group has ended", || {
        rustix::process::test_kill_process_group(group).is_err()
    })
    .await;
    assert!(!daemon.bundle("hung").exists());
    daemon.finish().await;
}

async fn a_shim_in_a_sandbox_is_joined_if_it_can_be(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    daemon.run("pod", &["/bin/sleep", "1000"]).await;
    let version = |id: &str| {
        let stored = fs::read(daemon.bundle(id).join("bootstrap.json")).unwrap();
        let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
        stored["version"].as_i64().unwrap()
    };
    let mut options = daemon.options("member", &["/bin/sleep", "1000"]);
    options.sandbox_id = "pod".into();
    daemon.create_with(options).await;
    tasks.start(namespace, "member", "").await.unwrap();
    if version("pod") >= 3 {
        assert_eq!(daemon.shim_pids().len(), 1);
        assert_eq!(fs::read_to_string(daemon.bundle("member").join("sandbox")).unwrap(), "pod");
    } else {
        assert_eq!(daemon.shim_pids().len(), 2, "a shim of version 2 is not joined");
    }
    for id in ["member", "pod"] {
        tasks.kill(namespace, id, "", 9, true).await.unwrap();
        tasks.wait(namespace, id, "").await.unwrap();
        tasks.delete(namespace, id).await.unwrap();
    }
    daemon.finish().await;
}

/// The shim of a group may end between its `start`, which finds it, and the daemon's connection (R8).
async fn a_shim_that_goes_away_while_it_is_joined_is_started_again(shim: Shim) {
    let mut daemon = Daemon::start(shim.clone()).await;
    daemon.stop().await;
    daemon.timeouts.load = Duration::from_millis(200);
    daemon.begin().await;
    let (real, marker) = (shim.0.display(), daemon.path().join("asked"));
    let text = format!(
        "for last; do :; done; [ $last = start ] && [ ! -e {0} ] && touch {0} && echo unix:///not/there && exit 0
        exec {real} \"$@\"",
        marker.display()
    );
    let mut options = daemon.options("lucky", &["/bin/true"]);
    options.runtime_path = script(&daemon, "leaving-shim", &text).display().to_string();
    daemon.create_with(options).await;
    assert!(marker.exists());
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    tasks.start(namespace, "lucky", "").await.unwrap();
    assert_eq!(tasks.wait(namespace, "lucky", "").await.unwrap().status, 0);
    tasks.delete(namespace, "lucky").await.unwrap();
    daemon.finish().await;
}

async fn a_shim_says_what_it_is_or_that_it_cannot(shim: Shim) {
    let daemon = Daemon::start(shim.clone()).await;
    match daemon.tasks().runtime_info(&shim.0.display().to_string(), None).await {
        Ok(info) => {
            assert!(info.name.contains("runc"), "{info:?}");
            assert!(info.features.is_some(), "{info:?}");
        }
        // Stock shims know how since 1.7.
        Err(error) => assert!(error.chain().contains("-info"), "{error:?}"),
    }
    let missing = daemon.tasks().runtime_info("io.containerd.absent.v9", None).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    daemon.finish().await;
}
