//! What is refused, with which class and words, and that nothing changes.

use corten_api::containerd::{runc::v1::Options, task::v3};
use corten_types::ErrorKind;
use prost_types::Any;
use serde_json::json;

use crate::{
    alone::{Scratch, options_any, unique},
    bundle::process,
    leaks, root_or_skip,
};

#[tokio::test]
async fn creations_that_cannot_be_leave_nothing() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("refused");
    scratch.write_bundle(&id, &["/no/such/program"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let request = scratch.create_request(&id);

    let error = shim.create(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert!(error.message().starts_with("OCI runtime create failed: "), "{error:?}");
    assert!(error.message().contains("/no/such/program"), "{error:?}");

    let mut missing = request.clone();
    missing.options =
        Some(options_any(&Options { binary_name: "no-such-runc".into(), ..Options::default() }));
    let error = shim.create(&missing).await.unwrap_err();
    assert!(error.message().contains("executable file not found in $PATH"), "{error:?}");

    let mut foreign = request.clone();
    foreign.options = Some(Any { type_url: "example.v1.Options".into(), value: Vec::new() });
    assert_eq!(shim.create(&foreign).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    foreign.options = Some(Any { type_url: "containerd.runc.v1.Options".into(), value: vec![0xff] });
    assert_eq!(shim.create(&foreign).await.unwrap_err().kind(), ErrorKind::InvalidArgument);

    let mut unmountable = request.clone();
    unmountable.rootfs[0].source = "/no/such/folder".into();
    let error = shim.create(&unmountable).await.unwrap_err();
    assert!(error.message().contains("failed to mount rootfs component"), "{error:?}");

    let mut unnamed = request.clone();
    unnamed.id = String::new();
    assert_eq!(shim.create(&unnamed).await.unwrap_err().kind(), ErrorKind::InvalidArgument);

    let mut silent = request.clone();
    silent.stdout = "/no/such/fifo".into();
    assert!(shim.create(&silent).await.unwrap_err().message().contains("/no/such/fifo"));

    assert!(!leaks::is_mounted(&scratch.path().display().to_string()), "a refused creation left a mount");
    assert_eq!(shim.state(&id, "").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(scratch.topics().is_empty());
    scratch.finish(shim).await;
}

#[tokio::test]
async fn a_specification_that_the_runtime_refuses_is_reported_in_its_words() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("spec");
    scratch.write_bundle(&id, &["true"], false, |config| {
        config["linux"]["namespaces"] = json!([{"type": "nonsense"}]);
    });
    let shim = scratch.shim(&id).await;
    let error = shim.create(&scratch.create_request(&id)).await.unwrap_err();
    assert!(error.message().contains("nonsense"), "{error:?}");
    scratch.finish(shim).await;
}

#[tokio::test]
async fn what_a_state_does_not_allow_is_refused_in_containerds_words() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("words");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let request = scratch.create_request(&id);
    shim.create(&request).await.unwrap();
    assert_eq!(shim.create(&request).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let pause = v3::PauseRequest { id: id.clone() };
    let resume = v3::ResumeRequest { id: id.clone() };
    let text = |result: corten_types::Result<()>| result.unwrap_err().message().to_owned();
    assert_eq!(text(shim.call("Pause", &pause).await), "cannot pause task in created state");
    shim.start(&id, "").await.unwrap();
    assert_eq!(text(shim.call("Resume", &resume).await), "cannot resume a running process");
    assert_eq!(shim.delete(&id, "").await.unwrap_err().message(), "cannot delete a running process");

    let error = shim.exec(&id, "a/b", &process(&["true"], false), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "an exec id names files");
    let error = shim.exec(&id, "x", &json!([1]), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    shim.exec(&id, "lost", &process(&["/no/such/program"], false), "").await.unwrap();
    let error = shim.start(&id, "lost").await.unwrap_err();
    assert!(error.message().contains("OCI runtime exec failed"), "{error:?}");
    assert_eq!(shim.wait(&id, "lost").await, 255, "nobody waits for ever for what did not start");
    shim.delete(&id, "lost").await.unwrap();
    assert_eq!(shim.start(&id, "none").await.unwrap_err().kind(), ErrorKind::NotFound);

    let checkpoint = v3::CheckpointTaskRequest {
        id: id.clone(),
        path: scratch.path().join("image-of-it").display().to_string(),
        ..v3::CheckpointTaskRequest::default()
    };
    if !crate::installed("criu") {
        assert!(text(shim.call("Checkpoint", &checkpoint).await).contains("checkpoint failed"));
    }
    shim.kill(&id, "", 9, false).await.unwrap();
    shim.wait(&id, "").await;
    assert_eq!(shim.kill(&id, "", 9, false).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(text(shim.call("Pause", &pause).await), "cannot pause a stopped container");
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

#[tokio::test]
async fn a_service_that_the_shim_does_not_have_is_unimplemented() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("absent");
    scratch.write_bundle(&id, &["true"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let context = corten_api::ttrpc::CallContext::new(&scratch.namespace);
    let service = "containerd.runtime.sandbox.v1.Sandbox";
    let answer: corten_types::Result<()> =
        corten_api::ttrpc::call(&shim.client, service, "PingSandbox", &context, &()).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unimplemented);
    scratch.finish(shim).await;
}
