//! Activated mounts (§1.8). What is activated here needs only a transformation, so nothing is really mounted.

use corten_api::containerd::{
    services::mounts::v1::{
        ActivateRequest, DeactivateRequest, InfoRequest, ListRequest, UpdateRequest,
        mounts_client::MountsClient,
    },
    types::Mount,
};
use tonic::Code;

use crate::support::{Server, in_namespace, request};

fn activate(name: &str, kind: &str) -> ActivateRequest {
    let mount = Mount { r#type: kind.into(), source: "/source".into(), ..Mount::default() };
    ActivateRequest {
        name: name.into(),
        mounts: vec![mount],
        labels: [("of".to_owned(), name.to_owned())].into(),
        temporary: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_activated_told_listed_and_deactivated() {
    let server = Server::whole().await;
    let mut client = MountsClient::new(server.channel().await);
    let activated = client.activate(request(activate("b", "format/bind"))).await.unwrap().into_inner();
    let info = activated.info.unwrap();
    assert_eq!((info.name.as_str(), info.active.len(), info.system.len()), ("b", 0, 1));
    assert_eq!(info.system[0].r#type, "bind");
    assert_eq!(info.labels["of"], "b");
    let told = client.info(request(InfoRequest { name: "b".into() })).await.unwrap().into_inner();
    assert_eq!(told.info, Some(info));
    client.activate(request(activate("a", "format/bind"))).await.unwrap();
    let mut stream = client.list(request(ListRequest::default())).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        names.push(message.info.unwrap().name);
    }
    assert_eq!(names, ["a", "b"]);
    let mut stream = client.list(in_namespace("other", ListRequest::default())).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_none());
    client.deactivate(request(DeactivateRequest { name: "b".into() })).await.unwrap();
    let gone = client.info(request(InfoRequest { name: "b".into() })).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_activated_is_refused_by_its_class() {
    let server = Server::whole().await;
    let mut client = MountsClient::new(server.channel().await);
    client.activate(request(activate("m", "format/bind"))).await.unwrap();
    for (wrong, code) in [
        (activate("m", "format/bind"), Code::AlreadyExists),
        (activate("plain", "bind"), Code::Unimplemented),
        (activate("", "format/bind"), Code::InvalidArgument),
        (activate("image", "mkfs/ext4"), Code::PermissionDenied),
    ] {
        let name = wrong.name.clone();
        assert_eq!(client.activate(request(wrong)).await.unwrap_err().code(), code, "{name}");
    }
    let nowhere = tonic::Request::new(activate("m", "format/bind"));
    assert_eq!(client.activate(nowhere).await.unwrap_err().code(), Code::FailedPrecondition);
    let missing = client.deactivate(request(DeactivateRequest { name: "absent".into() })).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    let update = client.update(request(UpdateRequest::default())).await;
    assert_eq!(update.unwrap_err().code(), Code::Unimplemented);
    let filters = ListRequest { filters: vec!["==".into()] };
    assert_eq!(client.list(request(filters)).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}
