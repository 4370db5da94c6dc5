//! Sizes, numbers of streams, headers, and shutting down.

use corten_api::{
    containerd::services::{
        events::v1::{PublishRequest, SubscribeRequest, events_client::EventsClient},
        version::v1::version_client::VersionClient,
    },
    health::v1::{HealthCheckRequest, health_client::HealthClient},
};
use corten_types::{Any, Namespace};
use tonic::{Code, Request, codegen::http::uri::PathAndQuery};

use crate::support::{PATIENCE, Server, basic, exchange, in_namespace, request};

fn publish(bytes: usize) -> PublishRequest {
    let event = prost_types::Any { type_url: "x.Y".into(), value: vec![7; bytes] };
    PublishRequest { topic: "/large".into(), event: Some(event) }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass_and_larger_ones_are_resource_exhausted() {
    let server = Server::start(basic(exchange()));
    let mut client = EventsClient::new(server.channel().await).max_encoding_message_size(usize::MAX);
    client.publish(request(publish(10 << 20))).await.unwrap();
    let status = client.publish(request(publish(17 << 20))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    client.publish(request(publish(1))).await.expect("the connection goes on");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_too_large_are_resource_exhausted() {
    let exchange = exchange();
    let server = Server::start(basic(exchange.clone()));
    let mut client = EventsClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
    let mut events = client.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    let namespace: Namespace = "test".parse().unwrap();
    for bytes in [15 << 20, 17 << 20] {
        let event = Any { type_url: "x.Y".into(), value: vec![7; bytes].into() };
        exchange.publish(&namespace, "/large", event).unwrap();
        let received = tokio::time::timeout(PATIENCE, events.message()).await.unwrap();
        match bytes >> 20 {
            15 => assert_eq!(received.unwrap().unwrap().event.unwrap().value.len(), bytes),
            _ => assert_eq!(received.unwrap_err().code(), Code::ResourceExhausted),
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_hundreds_of_streams_at_once() {
    let server = Server::start(basic(exchange()));
    let channel = server.channel().await;
    let mut streams = Vec::new();
    for _ in 0..300 {
        let mut client = HealthClient::new(channel.clone());
        let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
        streams.push(watch);
    }
    VersionClient::new(channel).version(()).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_required_and_checked() {
    let server = Server::start(basic(exchange()));
    let mut client = EventsClient::new(server.channel().await);
    let missing = client.publish(Request::new(publish(1))).await.unwrap_err();
    assert_eq!(
        (missing.code(), missing.message()),
        (Code::FailedPrecondition, "namespace is required: failed precondition")
    );
    let empty = client.publish(in_namespace("", publish(1))).await.unwrap_err();
    assert_eq!(empty.code(), Code::FailedPrecondition);
    for bad in ["a..b", "-a", "a_", &"a".repeat(77)] {
        assert_eq!(
            client.publish(in_namespace(bad, publish(1))).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    let mut twice = in_namespace("first", publish(1));
    twice.metadata_mut().append("containerd-namespace", "-bad".parse().unwrap());
    client.publish(twice).await.expect("the first value counts");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_in_every_way() {
    let server = Server::start(basic(exchange()));
    let mut client = HealthClient::new(server.channel().await);
    assert_eq!(client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status, 1);
    let unknown = HealthCheckRequest { service: "no.Such".into() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), Code::NotFound);
    let list = client.list(corten_api::health::v1::HealthListRequest {}).await.unwrap().into_inner();
    assert_eq!(list.statuses[""].status, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_unimplemented() {
    let server = Server::start(basic(exchange()));
    for path in ["/no.Such/Method", "/containerd.services.version.v1.Version/Fly", "/"] {
        let mut client = tonic::client::Grpc::new(server.channel().await);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = PathAndQuery::try_from(path).unwrap();
        let status = client.unary::<(), (), _>(Request::new(()), path, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_to_an_unknown_service_is_refused_after_its_first_message() {
    let server = Server::start(basic(exchange()));
    for writes in [true, false] {
        let (sender, messages) = tokio::sync::mpsc::channel::<()>(1);
        let mut client = tonic::client::Grpc::new(server.channel().await);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = PathAndQuery::from_static("/containerd.services.streaming.v1.Streaming/Stream");
        let messages = Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
        let mut call = Box::pin(client.streaming(messages, path, codec));
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut call).await;
        assert!(early.is_err(), "answered before the client wrote");
        if writes {
            sender.send(()).await.unwrap();
        } else {
            drop(sender);
        }
        let status = match call.await {
            Ok(answer) => answer.into_inner().message().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert_eq!(status.message(), "unknown service containerd.services.streaming.v1.Streaming");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_short_requests_and_cuts_long_ones_off() {
    let mut server = Server::start(basic(exchange()));
    let channel = server.channel().await;
    let mut watch =
        HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    server.ask_to_stop();
    let end = tokio::time::timeout(PATIENCE, watch.message()).await.expect("the stream is cut off");
    assert!(!matches!(end, Ok(Some(_))));
    server.stop().await;
    assert!(VersionClient::new(channel).version(()).await.is_err());
}
