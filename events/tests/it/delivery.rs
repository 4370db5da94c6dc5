//! Who gets what, in which order, until when.

use std::sync::Arc;

use corten_events::{Exchange, Limits, NoEventFields};
use corten_filter::Filters;
use corten_types::ErrorKind;

use crate::{event, everything, exchange, is_empty, namespace, next, text, waiting};

#[tokio::test]
async fn nothing_is_replayed() {
    let exchange = exchange();
    exchange.publish(&namespace("default"), "/a", event("before")).unwrap();
    let mut subscription = everything(&exchange);
    exchange.publish(&namespace("default"), "/a", event("after")).unwrap();
    assert_eq!(waiting(&mut subscription), ["after"]);
}

#[tokio::test]
async fn subscribers_share_an_envelope() {
    let exchange = exchange();
    let (mut first, mut second) = (everything(&exchange), everything(&exchange));
    let published = exchange.publish(&namespace("default"), "/a", event("x")).unwrap();
    assert!(Arc::ptr_eq(&next(&mut first).await.unwrap().unwrap(), &published));
    assert!(Arc::ptr_eq(&next(&mut second).await.unwrap().unwrap(), &published));
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken_and_loses_nothing_when_it_stops_waiting() {
    let exchange = exchange();
    let mut subscription = everything(&exchange);
    assert!(is_empty(&mut subscription), "polled once, then dropped");
    let receiver = tokio::spawn(async move {
        let first = text(&next(&mut subscription).await.unwrap().unwrap()).to_owned();
        (first, subscription)
    });
    exchange.publish(&namespace("default"), "/a", event("1")).unwrap();
    let (first, mut subscription) = receiver.await.unwrap();
    assert_eq!(first, "1");
    assert!(is_empty(&mut subscription));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_each_publisher_is_kept() {
    const PUBLISHERS: usize = 4;
    const EVENTS: usize = 500;
    let exchange = exchange();
    let mut subscriptions: Vec<_> = (0..3).map(|_| everything(&exchange)).collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let exchange = exchange.clone();
            std::thread::spawn(move || {
                for number in 0..EVENTS {
                    let content = event(&format!("{publisher} {number}"));
                    exchange.publish(&namespace("default"), "/a", content).unwrap();
                }
            })
        })
        .collect();
    for subscription in &mut subscriptions {
        let mut seen = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * EVENTS {
            let envelope = next(subscription).await.unwrap().unwrap();
            let (publisher, number) = text(&envelope).split_once(' ').unwrap();
            let seen = &mut seen[publisher.parse::<usize>().unwrap()];
            assert_eq!(number.parse::<usize>().unwrap(), *seen);
            *seen += 1;
        }
    }
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

#[tokio::test]
async fn a_closed_exchange_ends_subscriptions_after_what_waits() {
    let exchange = exchange();
    let mut subscription = everything(&exchange);
    exchange.publish(&namespace("default"), "/a", event("last")).unwrap();
    exchange.close();
    exchange.publish(&namespace("default"), "/a", event("too late")).unwrap();
    assert_eq!(text(&next(&mut subscription).await.unwrap().unwrap()), "last");
    assert!(next(&mut subscription).await.is_none());
    assert!(next(&mut subscription).await.is_none());
    assert_eq!(exchange.subscribe(Filters::all()).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_subscription_counts_until_it_is_dropped_and_one_more_than_allowed_is_refused() {
    let limits = Limits { subscribers: 2, ..Limits::default() };
    let exchange = Exchange::with_limits(Arc::new(NoEventFields), limits);
    let first = everything(&exchange);
    let _second = everything(&exchange);
    assert_eq!(exchange.subscriber_count(), 2);
    assert_eq!(exchange.subscribe(Filters::all()).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    drop(first);
    assert_eq!(exchange.subscriber_count(), 1);
    assert!(exchange.subscribe(Filters::all()).is_ok());
}
