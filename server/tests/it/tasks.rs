//! Tasks, as far as they need no shim.

use corten_api::containerd::services::{
    containers::v1::{
        Container, CreateContainerRequest, container::Runtime, containers_client::ContainersClient,
    },
    tasks::v1::{
        CheckpointTaskRequest, CreateTaskRequest, DeleteTaskRequest, GetRequest, KillRequest,
        ListTasksRequest, MetricsRequest, StartRequest, WaitRequest, tasks_client::TasksClient,
    },
};
use corten_types::Labels;
use prost_types::Any;
use tonic::{Code, Request};

use crate::support::{Server, request};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_needs_the_record_of_the_container() {
    let server = Server::whole().await;
    let mut client = TasksClient::new(server.channel().await);
    let id = || "absent".to_owned();
    let create = CreateTaskRequest { container_id: id(), ..Default::default() };
    let statuses = [
        client.create(request(create)).await.unwrap_err(),
        client.start(request(StartRequest { container_id: id(), exec_id: String::new() })).await.unwrap_err(),
        client.delete(request(DeleteTaskRequest { container_id: id() })).await.unwrap_err(),
        client.get(request(GetRequest { container_id: id(), exec_id: String::new() })).await.unwrap_err(),
        client.kill(request(KillRequest { container_id: id(), ..Default::default() })).await.unwrap_err(),
        client.wait(request(WaitRequest { container_id: id(), exec_id: String::new() })).await.unwrap_err(),
        client
            .checkpoint(request(CheckpointTaskRequest { container_id: id(), ..Default::default() }))
            .await
            .unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(status.code(), Code::NotFound, "{status}");
    }
    let missing = client.list(Request::new(ListTasksRequest::default())).await.unwrap_err();
    assert_eq!(missing.code(), Code::FailedPrecondition);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_a_task_has_none() {
    let server = Server::whole().await;
    let channel = server.channel().await;
    let container = Container {
        id: "c1".into(),
        labels: Labels::new(),
        runtime: Some(Runtime { name: "io.containerd.no-such.v1".into(), options: None }),
        spec: Some(Any { type_url: "a.B".into(), value: b"{}".to_vec() }),
        ..Default::default()
    };
    let create = CreateContainerRequest { container: Some(container) };
    ContainersClient::new(channel.clone()).create(request(create)).await.unwrap();
    let mut client = TasksClient::new(channel);
    let get = GetRequest { container_id: "c1".into(), exec_id: String::new() };
    assert_eq!(client.get(request(get)).await.unwrap_err().code(), Code::NotFound);
    let create = || CreateTaskRequest { container_id: "c1".into(), ..Default::default() };
    let status = client.create(request(create())).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "the shim is not installed: {status}");
    let restore = CreateTaskRequest {
        checkpoint: Some(corten_api::containerd::types::Descriptor::default()),
        ..create()
    };
    assert_eq!(client.create(request(restore)).await.unwrap_err().code(), Code::Unimplemented);
    let tasks = client.list(request(ListTasksRequest::default())).await.unwrap().into_inner().tasks;
    assert!(tasks.is_empty());
    let metrics = client.metrics(request(MetricsRequest { filters: vec!["id==c1".into()] })).await.unwrap();
    assert!(metrics.into_inner().metrics.is_empty());
    let bad = client.metrics(request(MetricsRequest { filters: vec!["==".into()] })).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    server.stop().await;
}
