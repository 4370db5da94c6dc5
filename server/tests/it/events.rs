//! Events over gRPC and ttrpc.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use corten_api::{
    containerd::{
        events::{TaskExit, TaskStart},
        services::events::{
            ttrpc::v1::ForwardRequest as TtrpcForwardRequest,
            v1::{ForwardRequest, PublishRequest, SubscribeRequest, events_client::EventsClient},
        },
        types::Envelope,
    },
    convert::{any_of, any_to_wire, timestamp, timestamp_or_go_zero},
    ttrpc::{CallContext, call},
};
use corten_server::{
    services::events::{EventsService, Forwarder},
    transport::{Grpc, bind},
    ttrpc::serve_events,
};
use corten_types::ErrorKind;
use tonic::{Code, Streaming};

use crate::support::{PATIENCE, Server, basic, exchange, own, request};

fn envelope(container: &str) -> Envelope {
    let exit = TaskExit { container_id: container.into(), id: container.into(), ..Default::default() };
    Envelope {
        timestamp: Some(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(5))),
        namespace: "other".into(),
        topic: "/tasks/exit".into(),
        event: Some(any_to_wire(any_of(&exit))),
    }
}

async fn next(stream: &mut Streaming<Envelope>) -> Envelope {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("an event comes").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn published_and_forwarded_events_reach_subscribers_whose_filters_match() {
    let server = Server::start(basic(exchange()));
    let mut client = EventsClient::new(server.channel().await);
    let subscribe =
        |filters: &[&str]| SubscribeRequest { filters: filters.iter().map(|&text| text.into()).collect() };
    let mut all = client.subscribe(subscribe(&[])).await.unwrap().into_inner();
    let mut one = client
        .subscribe(subscribe(&["event.container_id==c2,topic~=\"/tasks/\""]))
        .await
        .unwrap()
        .into_inner();

    let start = any_to_wire(any_of(&TaskStart { container_id: "c1".into(), pid: 7 }));
    client
        .publish(request(PublishRequest { topic: "/tasks/start".into(), event: Some(start.clone()) }))
        .await
        .unwrap();
    for container in ["c1", "c2"] {
        client.forward(ForwardRequest { envelope: Some(envelope(container)) }).await.unwrap();
    }

    let first = next(&mut all).await;
    assert_eq!(
        (first.namespace.as_str(), first.topic.as_str(), first.event),
        ("test", "/tasks/start", Some(start))
    );
    assert!(first.timestamp.unwrap().seconds > 1_000_000_000);
    assert_eq!(next(&mut all).await, envelope("c1"), "the envelope is handed on as it is");
    assert_eq!(next(&mut all).await, envelope("c2"));
    assert_eq!(next(&mut one).await, envelope("c2"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_events_and_filters_are_refused() {
    let server = Server::start(basic(exchange()));
    let mut client = EventsClient::new(server.channel().await);
    for topic in ["", "tasks", "/", "/a//b", "/-a"] {
        let status =
            client.publish(request(PublishRequest { topic: topic.into(), event: None })).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{topic:?}");
    }
    let bad = [
        None,
        Some(Envelope { timestamp: None, ..envelope("c") }),
        Some(Envelope { timestamp: Some(timestamp_or_go_zero(None)), ..envelope("c") }),
        Some(Envelope { namespace: String::new(), ..envelope("c") }),
        Some(Envelope { topic: "x".into(), ..envelope("c") }),
    ];
    for envelope in bad {
        let status = client.forward(ForwardRequest { envelope }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert!(client.subscribe(SubscribeRequest { filters: vec!["==".into()] }).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_no_subscriber_any_more() {
    let exchange = exchange();
    let server = Server::start(basic(exchange.clone()));
    let channel = server.channel().await;
    let stream = EventsClient::new(channel.clone()).subscribe(SubscribeRequest::default()).await.unwrap();
    assert_eq!(exchange.subscriber_count(), 1);
    drop(stream);
    drop(channel);
    let gone = async {
        while exchange.subscriber_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the subscription ends with the stream");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_holds_repetitions_back() {
    let exchange = exchange();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let forwarder =
        Forwarder::new(exchange).with_observer(move |_| counter.fetch_add(1, Ordering::SeqCst) != 0);
    let server = Server::start(Grpc::builder().add_service(EventsService::new(forwarder).into_server()));
    let mut client = EventsClient::new(server.channel().await);
    let mut all = client.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    for container in ["held", "passed"] {
        client.forward(ForwardRequest { envelope: Some(envelope(container)) }).await.unwrap();
    }
    assert_eq!(next(&mut all).await, envelope("passed"));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shims_forward_events_over_ttrpc() {
    let exchange = exchange();
    let mut subscription = exchange.subscribe(corten_filter::Filters::all()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ttrpc");
    let listener = bind(&path, &own()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve_events(
        listener,
        Forwarder::new(exchange.clone()),
        async { stopped.await.unwrap_or(()) },
        Duration::from_millis(100),
    ));
    let client = ::ttrpc::asynchronous::Client::connect(&format!("unix://{}", path.display())).await.unwrap();
    let context = CallContext::new("ignored");
    let service = "containerd.services.events.ttrpc.v1.Events";
    let good = TtrpcForwardRequest { envelope: Some(envelope("c1")) };
    let () = call(&client, service, "Forward", &context, &good).await.unwrap();
    let received = subscription.recv().await.unwrap().unwrap();
    assert_eq!((received.namespace.as_str(), received.topic.as_str()), ("other", "/tasks/exit"));

    let bad = TtrpcForwardRequest { envelope: None };
    let error = call::<_, ()>(&client, service, "Forward", &context, &bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);

    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, serving).await.expect("it stops").unwrap().unwrap();
    let error = call::<_, ()>(&client, service, "Forward", &context, &good).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
