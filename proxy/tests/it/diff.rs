//! What a differ is asked, and what it answers.

use std::time::{Duration, UNIX_EPOCH};

use corten_api::{containerd::types, convert};
use corten_diff::{Applier, ApplyOptions, CompareOptions, Comparer};
use corten_proxy::DiffProxy;
use corten_types::{Any, Descriptor, ErrorKind, Mount};

use crate::{
    TestServer,
    diff_service::{Asked, service},
    scope,
};

fn descriptor() -> Descriptor {
    let digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    Descriptor::new("application/vnd.oci.image.layer.v1.tar", digest, 17)
}

fn mount(source: &str) -> Mount {
    let options = vec!["ro".to_owned()];
    Mount { kind: "bind".to_owned(), source: source.to_owned(), target: String::new(), options }
}

#[tokio::test]
async fn a_layer_is_applied_by_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (_content_server, content) = {
        std::fs::create_dir(folder.path().join("content")).unwrap();
        crate::content(&folder.path().join("content"))
    };
    let asked = Asked::default();
    let server = TestServer::serve(folder.path(), service(asked.clone(), Some(descriptor().into())));
    let proxy = DiffProxy::new(&server.connection(), scope());
    let payload = Any { type_url: "t".to_owned(), value: "v".into() };
    let options = ApplyOptions { sync_fs: true, payloads: [("id".to_owned(), payload)].into() };
    let applied = proxy.apply(&content, &descriptor(), &[mount("/a"), mount("/b")], options).await.unwrap();
    assert_eq!(applied, descriptor());
    let request = asked.applied.lock().unwrap().pop().unwrap();
    assert_eq!(request.diff, Some(types::Descriptor::from(descriptor())));
    assert_eq!(request.mounts, [mount("/a").into(), mount("/b").into()]);
    assert!(request.sync_fs);
    assert_eq!(
        (request.payloads["id"].type_url.as_str(), request.payloads["id"].value.as_slice()),
        ("t", b"v".as_slice())
    );
}

#[tokio::test]
async fn a_layer_is_computed_by_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (_content_server, content) = {
        std::fs::create_dir(folder.path().join("content")).unwrap();
        crate::content(&folder.path().join("content"))
    };
    let asked = Asked::default();
    let server = TestServer::serve(folder.path(), service(asked.clone(), Some(descriptor().into())));
    let proxy = DiffProxy::new(&server.connection(), scope());
    let time = UNIX_EPOCH + Duration::from_secs(5);
    let options = CompareOptions {
        media_type: "m".to_owned(),
        key: "k".to_owned(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        source_date_epoch: Some(time),
    };
    let made = proxy.compare(&content, &[mount("/l")], &[mount("/u")], options.clone()).await.unwrap();
    assert_eq!(made, descriptor());
    let request = asked.compared.lock().unwrap().pop().unwrap();
    assert_eq!((request.left, request.right), (vec![mount("/l").into()], vec![mount("/u").into()]));
    assert_eq!(
        (request.media_type, request.r#ref, request.labels),
        (options.media_type, options.key, options.labels)
    );
    assert_eq!(request.source_date_epoch, Some(convert::timestamp(time)));
}

#[tokio::test]
async fn an_answer_without_a_descriptor_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("content")).unwrap();
    let (_content_server, content) = crate::content(&folder.path().join("content"));
    let server = TestServer::serve(folder.path(), service(Asked::default(), None));
    let proxy = DiffProxy::new(&server.connection(), scope());
    let applied = proxy.apply(&content, &descriptor(), &[], ApplyOptions::default()).await;
    assert_eq!(applied.unwrap_err().kind(), ErrorKind::Internal);
    let made = proxy.compare(&content, &[], &[], CompareOptions::default()).await;
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Internal);
}
