//! What happens when a subscriber is slower than publishers.

use std::sync::Arc;

use corten_events::{Exchange, Limits, NoEventFields, Subscription, TASK_EXIT_TOPIC};
use corten_types::ErrorKind;
use proptest::prelude::*;

use crate::{Any, event, everything, namespace, next, now, waiting};

/// An exchange whose queues hold exactly `count` of the events that `publish` makes.
fn exchange_for(count: usize) -> Exchange {
    let one = size_of::<corten_events::Envelope>() + "default".len() + "/tasks/exit".len() + 100;
    Exchange::with_limits(Arc::new(NoEventFields), Limits { queue_bytes: one * count, ..Limits::default() })
}

/// All events take the same room.
fn publish(exchange: &Exchange, is_exit: bool, number: usize) {
    let topic = if is_exit { TASK_EXIT_TOPIC } else { "/tasks/othr" };
    let event = Any { type_url: String::new(), value: format!("{number:0100}").into() };
    exchange.publish(&namespace("default"), topic, event).unwrap();
}

fn numbers(subscription: &mut Subscription) -> Vec<usize> {
    // The last thing taken may be the error, which ends the list.
    std::iter::from_fn(|| match now(subscription) {
        std::task::Poll::Ready(Some(Ok(envelope))) => Some(crate::text(&envelope).parse().unwrap()),
        _ => None,
    })
    .collect()
}

#[tokio::test]
async fn a_queue_takes_what_fits_exactly() {
    let exchange = exchange_for(3);
    let mut subscription = everything(&exchange);
    (0..3).for_each(|number| publish(&exchange, false, number));
    assert_eq!(numbers(&mut subscription), [0, 1, 2]);
    (3..6).for_each(|number| publish(&exchange, false, number));
    assert_eq!(numbers(&mut subscription), [3, 4, 5]);
}

#[tokio::test]
async fn one_event_too_many_ends_the_stream_with_an_error_after_what_waits() {
    let exchange = exchange_for(2);
    let mut subscription = everything(&exchange);
    (0..5).for_each(|number| publish(&exchange, false, number));
    for _ in 0..2 {
        assert!(next(&mut subscription).await.unwrap().is_ok());
    }
    let error = next(&mut subscription).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().contains("3 were lost, of which 0 were exits"), "{error}");
    publish(&exchange, true, 9);
    assert!(next(&mut subscription).await.is_none());
}

#[tokio::test]
async fn exits_push_out_other_events_and_go_last() {
    let exchange = exchange_for(2);
    let mut subscription = everything(&exchange);
    publish(&exchange, false, 0);
    publish(&exchange, true, 1);
    publish(&exchange, true, 2);
    publish(&exchange, false, 3);
    publish(&exchange, true, 4);
    for wanted in [1, 2] {
        let envelope = next(&mut subscription).await.unwrap().unwrap();
        assert_eq!(crate::text(&envelope).parse::<usize>().unwrap(), wanted);
    }
    let error = next(&mut subscription).await.unwrap().unwrap_err();
    assert!(error.message().contains("3 were lost, of which 1 were exits"), "{error}");
}

#[tokio::test]
async fn a_slow_subscriber_does_not_hurt_another() {
    let exchange = exchange_for(1);
    let _slow = everything(&exchange);
    let mut quick = everything(&exchange);
    for number in 0..20 {
        publish(&exchange, false, number);
        assert_eq!(numbers(&mut quick), [number]);
    }
    let small = event("small");
    exchange.publish(&namespace("default"), "/a", small).unwrap();
    assert_eq!(waiting(&mut quick), ["small"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is published and read: what arrives is in order, nothing is lost without an error, and an exit is lost only
    /// where exits alone fill the queue.
    #[test]
    fn losses_are_counted_and_exits_outlive_the_rest(
        capacity in 1_usize..6,
        steps in prop::collection::vec((0_u8..3, any::<bool>()), 0..40),
    ) {
        let exchange = exchange_for(capacity);
        let mut subscription = everything(&exchange);
        let (mut published, mut received, mut error) = (Vec::new(), Vec::new(), None);
        let mut take = |received: &mut Vec<usize>, error: &mut Option<String>| match now(&mut subscription) {
            std::task::Poll::Ready(Some(Ok(envelope))) => received.push(crate::text(&envelope).parse().unwrap()),
            std::task::Poll::Ready(Some(Err(overflow))) => *error = Some(overflow.message().to_owned()),
            _ => {}
        };
        for (step, is_exit) in steps {
            if step == 0 {
                take(&mut received, &mut error);
            } else if error.is_none() {
                publish(&exchange, is_exit, published.len());
                published.push(is_exit);
            }
        }
        for _ in 0..=capacity {
            take(&mut received, &mut error);
        }
        prop_assert!(received.is_sorted_by(|first, second| first < second));
        let lost: Vec<usize> = (0..published.len()).filter(|number| !received.contains(number)).collect();
        let lost_exits = lost.iter().filter(|number| published[**number]).count();
        match error {
            None => prop_assert!(lost.is_empty()),
            Some(message) => {
                let told = format!("{} were lost, of which {lost_exits} were exits", lost.len());
                prop_assert!(message.contains(&told), "{message}: {told}");
                prop_assert!(!lost.is_empty());
            }
        }
        if lost_exits > 0 {
            prop_assert!(received.iter().filter(|number| published[**number]).count() >= capacity);
        }
    }
}
