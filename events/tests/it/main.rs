//! The exchange as publishers and subscribers see it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delivery;
mod filters;
mod overflow;
mod validation;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use corten_events::{Envelope, EventFields, Exchange, Subscription};
use corten_filter::Filters;
use corten_types::{Any, Namespace, Result};

/// Reads events whose value is text: lines of `name=value`.
struct Lines;

impl EventFields for Lines {
    fn field(&self, event: &Any, path: &[&str]) -> Option<String> {
        let text = std::str::from_utf8(&event.value).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(&path.join("."))?.strip_prefix('='))?;
        Some(value.to_owned())
    }
}

fn exchange() -> Exchange {
    Exchange::new(Arc::new(Lines))
}

fn everything(exchange: &Exchange) -> Subscription {
    exchange.subscribe(Filters::all()).unwrap()
}

fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}

fn event(text: &str) -> Any {
    Any { type_url: "test.Lines".to_owned(), value: text.to_owned().into() }
}

fn text(envelope: &Envelope) -> &str {
    std::str::from_utf8(&envelope.event.value).unwrap()
}

/// The next thing, which must come.
async fn next(subscription: &mut Subscription) -> Option<Result<Arc<Envelope>>> {
    tokio::time::timeout(Duration::from_secs(60), subscription.recv()).await.expect("nothing came")
}

/// What can be taken without waiting.
fn now(subscription: &mut Subscription) -> Poll<Option<Result<Arc<Envelope>>>> {
    let receive = pin!(subscription.recv());
    receive.poll(&mut Context::from_waker(Waker::noop()))
}

fn is_empty(subscription: &mut Subscription) -> bool {
    now(subscription).is_pending()
}

/// The texts of the events that wait.
fn waiting(subscription: &mut Subscription) -> Vec<String> {
    let take = || match now(subscription) {
        Poll::Ready(Some(Ok(envelope))) => Some(text(&envelope).to_owned()),
        _ => None,
    };
    std::iter::from_fn(take).collect()
}
