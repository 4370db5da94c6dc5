//! Rows E01 and E02.

use std::time::{Duration, UNIX_EPOCH};

use corten_events::{Envelope, Topic};
use corten_types::{Any, ErrorKind};

use crate::{event, everything, exchange, is_empty, namespace, next};

#[test]
fn a_topic_has_components_after_slashes() {
    for topic in ["/a", "/tasks/exec-added", "/a/b/c.d_e", &format!("/{}", "a".repeat(76))] {
        assert_eq!(topic.parse::<Topic>().unwrap().as_str(), topic);
    }
    for topic in
        ["", "/", "tasks", "//", "/a/", "/a//b", "/a b", "/-a", "/a..b", &format!("/{}", "a".repeat(77))]
    {
        let error = topic.parse::<Topic>().expect_err(topic);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{topic:?}");
        assert!(error.message().contains(&format!("{topic:?}")));
    }
}

#[tokio::test]
async fn a_malformed_topic_is_refused_and_nobody_gets_the_event() {
    let exchange = exchange();
    let mut subscription = everything(&exchange);
    let error = exchange.publish(&namespace("default"), "tasks/exit", event("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(is_empty(&mut subscription));
}

#[test]
fn a_received_envelope_needs_namespace_topic_and_timestamp() {
    let now = Some(UNIX_EPOCH);
    assert!(Envelope::received(now, "default", "/a", Any::default()).is_ok());
    for (timestamp, namespace, topic) in
        [(None, "default", "/a"), (now, "", "/a"), (now, "a..b", "/a"), (now, "default", "a")]
    {
        let error = Envelope::received(timestamp, namespace, topic, Any::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn a_forwarded_envelope_keeps_its_time_and_namespace() {
    let exchange = exchange();
    let mut subscription = everything(&exchange);
    let time = UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123);
    let envelope = Envelope::received(Some(time), "elsewhere", "/tasks/oom", event("x")).unwrap();
    exchange.forward(envelope.clone());
    assert_eq!(*next(&mut subscription).await.unwrap().unwrap(), envelope);
}
