//! Snapshots and layers.

use corten_api::containerd::{
    services::{
        diff::v1::{ApplyRequest, DiffRequest, diff_client::DiffClient},
        snapshots::v1::{
            CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, MountsRequest,
            PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest,
            UsageRequest, ViewSnapshotRequest, snapshots_client::SnapshotsClient,
        },
    },
    types::{Descriptor, Mount},
};
use corten_types::Labels;
use tonic::Code;

use crate::support::{Server, request};

fn prepare(key: &str, parent: &str) -> PrepareSnapshotRequest {
    PrepareSnapshotRequest {
        snapshotter: "memory".into(),
        key: key.into(),
        parent: parent.into(),
        ..Default::default()
    }
}

fn commit(name: &str, key: &str) -> CommitSnapshotRequest {
    CommitSnapshotRequest {
        snapshotter: "memory".into(),
        name: name.into(),
        key: key.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_live_as_the_protocol_says() {
    let server = Server::whole().await;
    let mut client = SnapshotsClient::new(server.channel().await);
    let memory = || "memory".to_owned();
    let mounts = client.prepare(request(prepare("a", ""))).await.unwrap().into_inner().mounts;
    assert_eq!((mounts.len(), mounts[0].r#type.as_str()), (1, "bind"));
    let again =
        client.mounts(request(MountsRequest { snapshotter: memory(), key: "a".into() })).await.unwrap();
    assert_eq!(again.into_inner().mounts, mounts);
    assert_eq!(client.prepare(request(prepare("a", ""))).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(client.prepare(request(prepare("b", "absent"))).await.unwrap_err().code(), Code::NotFound);
    client.commit(request(commit("layer", "a"))).await.unwrap();

    let view = ViewSnapshotRequest {
        snapshotter: memory(),
        key: "v".into(),
        parent: "layer".into(),
        ..Default::default()
    };
    client.view(request(view)).await.unwrap();
    let stat = |key: &str| StatSnapshotRequest { snapshotter: memory(), key: key.into() };
    let info = client.stat(request(stat("v"))).await.unwrap().into_inner().info.unwrap();
    assert_eq!((info.kind(), info.parent.as_str()), (Kind::View, "layer"));
    let info = client.stat(request(stat("layer"))).await.unwrap().into_inner().info.unwrap();
    assert_eq!((info.kind(), info.parent.as_str()), (Kind::Committed, ""));
    let labels = Labels::from([("x".into(), "y".into())]);
    let change = Info { name: "layer".into(), labels: labels.clone(), ..Default::default() };
    let update = UpdateSnapshotRequest { snapshotter: memory(), info: Some(change), update_mask: None };
    assert_eq!(client.update(request(update)).await.unwrap().into_inner().info.unwrap().labels, labels);
    let usage = UsageRequest { snapshotter: memory(), key: "layer".into() };
    assert_eq!(client.usage(request(usage)).await.unwrap().into_inner().inodes, 3);

    let remove = |key: &str| RemoveSnapshotRequest { snapshotter: memory(), key: key.into() };
    assert_eq!(client.remove(request(remove("layer"))).await.unwrap_err().code(), Code::FailedPrecondition);
    client.remove(request(remove("v"))).await.unwrap();
    client.remove(request(remove("layer"))).await.unwrap();
    assert_eq!(client.stat(request(stat("layer"))).await.unwrap_err().code(), Code::NotFound);
    let cleanup = client.cleanup(request(CleanupRequest { snapshotter: memory() })).await.unwrap_err();
    assert_eq!(cleanup.code(), Code::Unimplemented);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshotter_that_is_not_there_is_an_invalid_argument() {
    let server = Server::whole().await;
    let mut client = SnapshotsClient::new(server.channel().await);
    for snapshotter in ["", "zfs"] {
        let request = request(PrepareSnapshotRequest { snapshotter: snapshotter.into(), ..prepare("a", "") });
        let status = client.prepare(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("snapshotter not loaded"), "{status}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_listed_a_hundred_at_a_time() {
    let server = Server::whole().await;
    let mut client = SnapshotsClient::new(server.channel().await);
    for number in 0..101 {
        client.prepare(request(prepare(&format!("k{number:03}"), ""))).await.unwrap();
    }
    let list =
        |filter: &str| ListSnapshotsRequest { snapshotter: "memory".into(), filters: vec![filter.into()] };
    let mut stream = client.list(request(list("kind==active"))).await.unwrap().into_inner();
    let mut lengths = Vec::new();
    while let Some(page) = stream.message().await.unwrap() {
        lengths.push(page.info.len());
    }
    assert_eq!(lengths, [100, 1]);
    let mut stream = client.list(request(list("kind==committed"))).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_none());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_differ_that_can_is_taken() {
    let server = Server::whole().await;
    let mut client = DiffClient::new(server.channel().await);
    let layer = |media_type: &str| Descriptor {
        media_type: media_type.into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        size: 1,
        ..Default::default()
    };
    let apply = |media_type: &str| ApplyRequest {
        diff: Some(layer(media_type)),
        mounts: vec![Mount::default(), Mount::default()],
        sync_fs: true,
        ..Default::default()
    };
    for media_type in ["a", "b"] {
        let applied = client.apply(request(apply(media_type))).await.unwrap().into_inner().applied.unwrap();
        assert_eq!(applied.media_type, format!("{media_type} 2 true"));
        let diff = DiffRequest {
            left: vec![Mount::default()],
            right: vec![Mount::default(), Mount::default()],
            media_type: media_type.into(),
            r#ref: "the-ref".into(),
            ..Default::default()
        };
        let made = client.diff(request(diff)).await.unwrap().into_inner().diff.unwrap();
        assert_eq!(made.media_type, "the-ref 12");
    }
    assert_eq!(client.apply(request(apply("c"))).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(client.diff(request(DiffRequest::default())).await.unwrap_err().code(), Code::Unimplemented);
    let nothing = ApplyRequest { diff: None, ..apply("a") };
    assert_eq!(client.apply(request(nothing)).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}
