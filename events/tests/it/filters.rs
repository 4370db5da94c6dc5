//! Rows E03 and E04.

use corten_filter::Filters;

use crate::{event, exchange, namespace, waiting};

/// The first lines of the events that `filters` let through.
fn received(filters: &[&str]) -> Vec<String> {
    let exchange = exchange();
    let mut subscription = exchange.subscribe(Filters::parse(filters).unwrap()).unwrap();
    for (place, topic, content) in [
        ("default", "/tasks/start", "container_id=a\npid=1"),
        ("k8s.io", "/tasks/exit", "container_id=b\nruntime.name=runc"),
        ("default", "/images/create", "name=localhost/app:1"),
        ("default", "/sandboxes/create", "damaged"),
    ] {
        exchange.publish(&namespace(place), topic, event(content)).unwrap();
    }
    let first_line = |text: String| text.lines().next().unwrap().to_owned();
    waiting(&mut subscription).into_iter().map(first_line).collect()
}

#[test]
fn every_namespace_is_seen_without_a_filter() {
    let all = ["container_id=a", "container_id=b", "name=localhost/app:1", "damaged"];
    assert_eq!(received(&[]), all);
    assert_eq!(received(&[""]), all);
}

#[test]
fn filters_look_at_namespace_and_topic() {
    assert_eq!(received(&["namespace==k8s.io"]), ["container_id=b"]);
    assert_eq!(received(&["topic~=\"^/tasks/\""]), ["container_id=a", "container_id=b"]);
    assert_eq!(received(&["topic~=/start$/", "namespace==k8s.io"]), ["container_id=a", "container_id=b"]);
    assert_eq!(received(&["topic~=/start$/,namespace==k8s.io"]), [""; 0]);
    assert_eq!(received(&["timestamp"]), [""; 0]);
}

#[test]
fn filters_look_at_the_fields_of_the_event() {
    assert_eq!(received(&["event.container_id==b"]), ["container_id=b"]);
    assert_eq!(received(&["event.container_id"]), ["container_id=a", "container_id=b"]);
    assert_eq!(received(&["event.runtime.name==runc"]), ["container_id=b"]);
    assert_eq!(received(&["event.container_id!=a,namespace==default"]), ["name=localhost/app:1", "damaged"]);
    assert_eq!(received(&["event"]), [""; 0]);
}
