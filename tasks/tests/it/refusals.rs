//! What cannot be made, and that nothing of it remains.

use std::{fs, path::Path};

use corten_api::containerd::runc::v1::Options as RuncOptions;
use corten_types::{Any, ErrorKind};
use prost::Message;

use crate::{
    Shim,
    container::{spec_any, spec_json},
    daemon::Daemon,
    with_both_shims,
};

with_both_shims!(
    a_spec_that_runc_refuses_is_refused_in_its_own_words,
    bad_names_are_refused,
    runtimes_that_are_not_there_are_named,
    options_are_of_one_type_and_empty_ones_fall_back,
    a_bundle_that_exists_is_left_alone,
    mounts_with_mapped_ids_need_a_runtime_that_knows_them,
    a_rootfs_that_cannot_be_mounted_leaves_nothing,
);

fn runc_options(options: &RuncOptions) -> Any {
    Any { type_url: "containerd.runc.v1.Options".into(), value: options.encode_to_vec().into() }
}

async fn a_spec_that_runc_refuses_is_refused_in_its_own_words(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let tasks = daemon.tasks();
    let absent = tasks.create(daemon.options("absent", &["/bin/not-there"])).await.unwrap_err();
    assert!(absent.chain().contains("/bin/not-there"), "{absent:?}");
    assert!(absent.chain().contains("OCI runtime create failed"), "{absent:?}");
    let mut spec = spec_json(daemon.namespace.as_str(), "bad", &["/bin/true"]);
    spec["linux"]["namespaces"] = serde_json::json!([{"type": "imaginary"}]);
    let mut options = daemon.options("bad", &[]);
    options.spec = spec_any(&spec);
    let bad = tasks.create(options).await.unwrap_err();
    assert!(bad.chain().contains("imaginary"), "{bad:?}");
    assert!(!daemon.bundle("bad").exists());
    // The same name can be used properly afterwards.
    daemon.create("bad", &["/bin/true"]).await;
    tasks.delete(&daemon.namespace, "bad").await.unwrap();
    daemon.finish().await;
}

async fn bad_names_are_refused(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let tasks = daemon.tasks();
    for bad in ["", "..", "a/b", "a..b", &"a".repeat(77)] {
        let refused = tasks.create(daemon.options(bad, &["/bin/true"])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{bad}: {refused:?}");
    }
    let unknown = tasks.get(&daemon.namespace, "../../etc", "").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let mut options = daemon.options("unread", &[]);
    options.spec.value = "this is not JSON".into();
    let refused = tasks.create(options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused:?}");
    daemon.finish().await;
}

async fn runtimes_that_are_not_there_are_named(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let tasks = daemon.tasks();
    for (runtime, kind, words) in [
        (
            "io.containerd.absent.v9",
            ErrorKind::NotFound,
            "binary not installed \"containerd-shim-absent-v9\"",
        ),
        ("/not/there/shim", ErrorKind::NotFound, "binary not installed"),
        ("/etc/passwd", ErrorKind::NotFound, "is not a program"),
        ("bin/shim", ErrorKind::InvalidArgument, "invalid runtime name"),
        ("runc", ErrorKind::InvalidArgument, "invalid runtime name"),
    ] {
        let mut options = daemon.options("homeless", &["/bin/true"]);
        options.runtime_path = runtime.into();
        let refused = tasks.create(options).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused:?}");
        assert!(refused.chain().contains(words), "{refused:?}");
    }
    let mut options = daemon.options("homeless", &["/bin/true"]);
    options.task_options =
        Some(runc_options(&RuncOptions { binary_name: "/not/there/runc".into(), ..RuncOptions::default() }));
    let refused = tasks.create(options).await.unwrap_err();
    assert!(refused.chain().contains("/not/there/runc"), "{refused:?}");
    daemon.finish().await;
}

async fn options_are_of_one_type_and_empty_ones_fall_back(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let tasks = daemon.tasks();
    let mut options = daemon.options("typed", &["/bin/true"]);
    options.task_options = Some(Any { type_url: "some.other.Options".into(), value: vec![8, 1].into() });
    let refused = tasks.create(options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unknown);
    assert_eq!(refused.message(), "invalid task create option for io.containerd.runc.v2");

    let absent =
        runc_options(&RuncOptions { binary_name: "/not/there/runc".into(), ..RuncOptions::default() });
    let mut options = daemon.options("typed", &["/bin/true"]);
    options.runtime_options = Some(absent.clone());
    options.task_options = Some(runc_options(&RuncOptions::default()));
    let refused = tasks.create(options).await.unwrap_err();
    assert!(refused.chain().contains("/not/there/runc"), "empty options count as none: {refused:?}");

    let mut options = daemon.options("typed", &["/bin/true"]);
    options.runtime_options = Some(absent);
    options.task_options =
        Some(runc_options(&RuncOptions { no_new_keyring: true, ..RuncOptions::default() }));
    daemon.create_with(options).await;
    tasks.delete(&daemon.namespace, "typed").await.unwrap();
    daemon.finish().await;
}

async fn a_bundle_that_exists_is_left_alone(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    fs::create_dir_all(daemon.bundle("taken")).unwrap();
    fs::write(daemon.bundle("taken").join("mine"), "mine").unwrap();
    let refused = daemon.tasks().create(daemon.options("taken", &["/bin/true"])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(daemon.bundle("taken").join("mine")).unwrap(), "mine");
    fs::remove_dir_all(daemon.bundle("taken")).unwrap();
    // A left-over work folder is no obstacle (H73).
    fs::create_dir_all(daemon.work().join("taken/old")).unwrap();
    daemon.create("taken", &["/bin/true"]).await;
    assert!(!daemon.work().join("taken/old").exists());
    daemon.tasks().delete(&daemon.namespace, "taken").await.unwrap();
    daemon.finish().await;
}

async fn mounts_with_mapped_ids_need_a_runtime_that_knows_them(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let mut spec = spec_json(daemon.namespace.as_str(), "mapped", &["/bin/true"]);
    spec["mounts"][0]["options"] = serde_json::json!(["idmap"]);
    let mut options = daemon.options("mapped", &[]);
    options.spec = spec_any(&spec);
    // runc 1.1 ignores such mounts silently; stock shims of 1.6 cannot even be asked.
    let refused = daemon.tasks().create(options).await.unwrap_err();
    let words = refused.chain();
    assert!(words.contains("mapped ids") || words.contains("failed to validate"), "{refused:?}");
    daemon.finish().await;
}

async fn a_rootfs_that_cannot_be_mounted_leaves_nothing(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let mut options = daemon.options("rootless", &["/bin/true"]);
    let mut second = options.rootfs[0].clone();
    second.source = "/not/there".into();
    options.rootfs.push(second);
    let refused = daemon.tasks().create(options).await.unwrap_err();
    assert!(refused.chain().starts_with("failed to create shim task"), "{refused:?}");
    assert!(!Path::new(&daemon.bundle("rootless")).exists());
    daemon.finish().await;
}
